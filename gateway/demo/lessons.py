"""What the demo model knows that follows a rule or fills a table: sums, counting, capitals, words.

Owns the second half of the training text, in the pattern language of `corpus.yaml`. Each public function
yields answers with the ways to ask for them; nothing here is random. Sums are learned by heart: the model
cannot add.
"""

from collections.abc import Iterator, Mapping

from gateway.demo.corpus import Lesson

NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
)

_CAPITALS: Mapping[str, str] = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "England": "London",
    "Ireland": "Dublin",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Greece": "Athens",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Japan": "Tokyo",
    "China": "Beijing",
    "India": "New Delhi",
    "Egypt": "Cairo",
    "Canada": "Ottawa",
    "Russia": "Moscow",
}

_TRANSLATIONS: Mapping[str, Mapping[str, str]] = {
    "French": {
        "hello": "bonjour",
        "thank you": "merci",
        "goodbye": "au revoir",
        "yes": "oui",
        "no": "non",
        "cat": "chat",
        "dog": "chien",
        "water": "eau",
        "bread": "pain",
    },
    "German": {
        "hello": "hallo",
        "thank you": "danke",
        "goodbye": "auf Wiedersehen",
        "yes": "ja",
        "no": "nein",
        "cat": "Katze",
        "dog": "Hund",
        "water": "Wasser",
        "bread": "Brot",
    },
    "Spanish": {
        "hello": "hola",
        "thank you": "gracias",
        "goodbye": "adiós",
        "yes": "sí",
        "no": "no",
        "cat": "gato",
        "dog": "perro",
        "water": "agua",
        "bread": "pan",
    },
    "Italian": {
        "hello": "ciao",
        "thank you": "grazie",
        "goodbye": "arrivederci",
        "yes": "sì",
        "no": "no",
        "cat": "gatto",
        "dog": "cane",
        "water": "acqua",
        "bread": "pane",
    },
}

_OPPOSITES = (
    "hot cold,big small,good bad,up down,left right,day night,black white,old young,fast slow,open closed,"
    "happy sad,high low,wet dry,light dark,full empty,early late,true false,first last,inside outside,"
    "hard soft,rich poor"
)
_SOUNDS = "cat meow,dog woof,cow moo,duck quack,sheep baa,lion roar,pig oink,bee buzz,owl hoo"
_COLOURS = "the sky blue,grass green,snow white,a banana yellow,a tomato red,coal black,the sun yellow"
_LEGS = "dog four,cat four,bird two,spider eight,horse four,man two,fish no,snake no,bee six,cow four"
_DURATIONS = (
    "days a week 7,months a year 12,hours a day 24,minutes an hour 60,seconds a minute 60,days a year 365,"
    "weeks a year 52,years a century 100,letters the alphabet 26"
)


def _pairs(table: str) -> Iterator[tuple[str, str]]:
    """Split `a b,c d` into its pairs; the second of a pair is one word."""
    for entry in table.split(","):
        first, _, second = entry.rpartition(" ")
        yield first, second


def named(number: int) -> str:
    """The pattern of a number: its digits or its name."""
    return f"({number}|{NUMBERS[number]})" if number < len(NUMBERS) else str(number)


def sums() -> Iterator[Lesson]:
    """Addition and subtraction from 0 to 10, multiplication from 0 to 5, no result below 0."""
    for a in range(11):
        for b in range(11):
            yield _sum(a, b, ("plus", "plus|and|added to", "(+| + )"), a + b)
            if max(a, b) <= 5:
                yield _sum(a, b, ("times", "times|multiplied by", "(*| * | x |x)"), a * b)
            if a >= b:
                yield _sum(a, b, ("minus", "minus|take away|less", "(-| - )"), a - b)


def _sum(a: int, b: int, operation: tuple[str, str, str], result: int) -> Lesson:
    """One sum, asked in words and in signs; `operation` is its name, its names and its sign."""
    name, names, sign = operation
    ask = "(what is |what's |how much is |how much |calculate |compute |what does |tell me |||||)"
    tail = "( equal| make| =| = ?| equals||||)"
    spelled = f"{ask}{NUMBERS[a]} ({names}) {NUMBERS[b]}{tail}"
    digits = f"{ask}{a} ({names}) {b}{tail}"
    return Lesson(say=f"{a} {name} {b} is {result}.", ask=(spelled, digits, f"{ask}{a}{sign}{b}{tail}"))


def counting() -> Iterator[Lesson]:
    """Counting up to a number, and down from it: each up to 10, then 12, 15 and 20."""
    say = "count|can you count|count for me|counting|numbers|say the numbers|list the numbers|write the numbers"
    more = "count up|please count|count slowly|name the numbers|let us count|give me the numbers|do you count"
    up = (f"({say}|{more}) (from (1|one) |)(to|up to|until|till|through) {{last}}", "1 to {last}")
    down = (
        f"({say}) (backwards|down|back|backward|in reverse) from {{last}}( to (1|one)| down to (1|one)|)",
        f"({say}) (from |){{last}} (down |back |backwards |)to (1|one)",
        "(countdown|count down) from {last}( to (1|one)|)",
    )
    for last in (3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20):
        numbers = [str(number) for number in range(1, last + 1)]
        yield Lesson(say=", ".join(numbers) + ".", ask=[way.format(last=named(last)) for way in up])
        yield Lesson(say=", ".join(reversed(numbers)) + ".", ask=[way.format(last=named(last)) for way in down])


def capitals() -> Iterator[Lesson]:
    """The capital of a country, and the country of a capital."""
    ask = "(what is|what's|tell me|name|which city is|which is|what city is|do you know|)"
    for country, city in _CAPITALS.items():
        land, town = country.lower(), city.lower()
        ways = (
            f"{ask} (the|) capital( city|) of {land}",
            f"{ask} {land}'s capital( city|)",
            f"what is the capital in {land}",
            f"{land} capital",
        )
        yield Lesson(say=f"The capital of {country} is {city}.", ask=ways)
        which = f"(where is|what is|which country is|in which country is|in what country is) {town}( in|)"
        yield Lesson(say=f"{city} is the capital of {country}.", ask=(which,))


def translations() -> Iterator[Lesson]:
    """A few words in French, German, Spanish and Italian."""
    for language, words in _TRANSLATIONS.items():
        tongue = language.lower()
        for english, foreign in words.items():
            quoted = f"(\"{english}\"|'{english}'|{english}|the word {english}|the word '{english}')"
            ways = (
                f"(translate|can you translate|please translate) {quoted} (into|to|in) {tongue}",
                f"(how do (you|i) say|how to say|what is|what's|say|how is|write) {quoted} in {tongue}",
                f"(what is|tell me) the {tongue} (word |)for {quoted}",
                f"{english} in {tongue}",
                f"{tongue} for {english}",
            )
            yield Lesson(say=f'"{english.capitalize()}" in {language} is "{foreign}".', ask=ways)


def everyday() -> Iterator[Lesson]:
    """Opposites, and what animals, things and times are known for."""
    for one, other in _pairs(_OPPOSITES):
        for word, opposite in ((one, other), (other, one)):
            ask = f'(what is|what\'s|tell me|) (the|) (opposite|contrary|antonym) (of|to) ("{word}"|{word})'
            yield Lesson(say=f"The opposite of {word} is {opposite}.", ask=(ask,))
    for animal, sound in _pairs(_SOUNDS):
        asks = (
            f"what (does|sound does|noise does) (a|the) {animal} (say|make)",
            f"how does (a|the) {animal} sound",
        )
        yield Lesson(say=f"The {animal} says {sound}.", ask=asks)
    for thing, colour in _pairs(_COLOURS):
        asks = (f"(what|which) (colour|color) (is|has) {thing}", f"what is the (colour|color) of {thing}")
        yield Lesson(say=f"{thing.capitalize()} is {colour}.", ask=asks)
    for animal, legs in _pairs(_LEGS):
        ask = f"how many legs (does (a|the) {animal} have|has (a|the) {animal})"
        yield Lesson(say=f"A {animal} has {legs} legs.", ask=(ask,))
    for entry, count in _pairs(_DURATIONS):
        what, whole = entry.split(" ", 1)
        ask = f"how many {what} (are there in|are in|does|has|in|make) {whole}( have|)"
        yield Lesson(say=f"There are {count} {what} in {whole}.", ask=(ask,))
