// Drives the official OpenAI client for Node against $BASE_URL and prints what it got as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0 });
const ask = { model: "demo", messages: [{ role: "user", content: "ping" }], temperature: 0 };
const said = {};

const whole = await client.chat.completions.create(ask);
said.whole = [whole.model, whole.choices[0].message.content];

const pieces = [];
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  pieces.push(chunk.choices[0]?.delta?.content ?? "");
}
said.streamed = pieces.join("");

said.listed = [];
for await (const model of client.models.list()) said.listed.push(model.id);
said.retrieved = (await client.models.retrieve("ms/e")).id;

const wanted = { model: "e", input: "one two" };
said.floats = (await client.embeddings.create({ ...wanted, encoding_format: "float" })).data[0].embedding;
said.unpacked = Array.from((await client.embeddings.create(wanted)).data[0].embedding);

try {
  await client.chat.completions.create({ ...ask, model: "nobody" });
} catch (error) {
  said.error = [error instanceof OpenAI.NotFoundError, error.status, error.code, error.param];
}

const leaving = await client.chat.completions.create({ ...ask, stream: true });
for await (const chunk of leaving) {
  said.left = chunk.model;
  break;
}
console.log(JSON.stringify(said));
