"""HTTP in. The only package that knows `aiohttp.web`."""
