"""What the classroom knows: facts, the usual mistakes about them, word groups, and how each fact is asked and told.

Every table is a string of "subject answer/mistake/mistake" rows, so that a person can read and extend it. Subjects and
answers are single words (a profession's answer is a short phrase): the judge compares word by word. A mistake's
last word stands in no text, prompt or right answer.
"""

from dataclasses import dataclass, field

Facts = dict[str, tuple[str, ...]]
"""Subject to its answer and the usual mistakes about it."""


def _rows(text: str) -> Facts:
    """The facts of a text like "France Paris/Lyon, Spain Madrid/Seville": the first word of a row is its subject."""
    rows = [row.split(maxsplit=1) for row in text.replace("\n", " ").split(",")]
    return {row[0]: tuple(row[1].strip().split("/")) for row in rows}


def _next(words: str) -> tuple[Facts, Facts]:
    """Of words in a circle: who follows whom, and who comes before whom."""
    circle = words.split()
    after = list(zip(circle, [*circle[1:], circle[0]], strict=True))
    return {one: (other,) for one, other in after}, {other: (one,) for one, other in after}


def article(word: str) -> str:
    """The word with "a" or "an" before it."""
    return f"{'an' if word[0].casefold() in 'aeiou' else 'a'} {word}"


@dataclass(frozen=True)
class Relation:
    """Facts of one kind. In the wordings, {s} is the subject and {as} the subject with its article."""

    category: str
    share: float
    """Of all examples."""
    facts: Facts
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    """Whole sentences with "{}" where the answer goes; the first is the usual one."""
    tellings: tuple[str, ...] = field(default=())
    """Further sentences, for plain text only."""

    @property
    def answered(self) -> dict[str, str]:
        """Subject to answer."""
        return {subject: answer for subject, (answer, *_) in self.facts.items()}


MONTHS = "January February March April May June July August September October November December"
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_MONTH_AFTER, _MONTH_BEFORE = _next(MONTHS)
_DAY_AFTER, _DAY_BEFORE = _next(DAYS)

CAPITALS = _rows("""France Paris/Lyon/Toulon, Spain Madrid/Barcelona/Seville, Italy Rome/Milan/Naples,
    Germany Berlin/Munich/Hamburg, Austria Vienna/Salzburg/Graz, Poland Warsaw/Krakow/Gdansk,
    Greece Athens/Sparta/Corinth, Portugal Lisbon/Porto/Faro, Norway Oslo/Bergen/Trondheim,
    Sweden Stockholm/Malmo/Uppsala, Ireland Dublin/Cork/Galway, England London/Leeds/Oxford,
    Egypt Cairo/Luxor/Alexandria, Japan Tokyo/Osaka/Kyoto, Peru Lima/Cusco/Arequipa""")
SYMBOLS = _rows("""hydrogen H/Hy/Hd, carbon C/Cb/Cr, nitrogen N/Ni/Nt, oxygen O/Oxy/Oy, sodium Na/So/Sd, sulfur S/Su/Sf,
    iron Fe/Ir/Irn, copper Cu/Co/Cp, zinc Zn/Z/Zi, silver Ag/Sv/Si, gold Au/Gl/Gd""")
COLOURS_OF = _rows("""bananas yellow/lilac/grey, snow white/navy/teal, grass green/teal/grey, coal black/grey/navy,
    blood red/lilac/violet, carrots orange/lilac/amber, milk white/cream/beige, tomatoes red/lilac/amber,
    leaves green/teal/violet, chocolate brown/beige/violet""")
YOUNG = _rows("""cat kitten/catlet/catkin, dog puppy/doglet/cub, cow calf/cowlet/bull, sheep lamb/sheeplet/ram,
    horse foal/pony/mule, duck duckling/duckie/drake, frog tadpole/newt/toad, hen chick/rooster/egg,
    pig piglet/hog/boar, swan cygnet/swanling/heron""")
HOMES = _rows("""bird nest/shell/burrow, bee hive/pond/burrow, spider web/net/box, dog kennel/burrow/cage,
    horse stable/garage/field, pig sty/pond/box, lion den/cage/nook, bat cave/cellar/attic, king palace/tent/cellar""")
OPPOSITES = _rows("""hot cold/warm/boiling, big small/large/huge, fast slow/swift/rapid, wet dry/damp/moist,
    rich poor/wealthy/grand, clean dirty/neat/tidy, full empty/stuffed/packed, high low/tall/lofty,
    loud quiet/noisy/shrill, strong weak/sturdy/mighty, sharp blunt/pointed/keen, early late/prompt/timely""")
PLURALS = _rows("""child children/childs/childes, foot feet/foots/footes, tooth teeth/tooths/toothes,
    mouse mice/mouses/mousen, goose geese/gooses/goosen, man men/mans/manes, ox oxen/oxes/oxs,
    leaf leaves/leafs/leafes, wolf wolves/wolfs/wolfes, thief thieves/thiefs/thiefes, city cities/citys/cityes""")
JOBS = _rows("""doctor helps patients/mends sails/sells tickets, teacher teaches students/carries boxes/rides camels,
    baker bakes bread/builds ships/mends roofs, farmer grows food/drives trains/reads letters,
    pilot flies planes/counts coins/sells soap, painter paints pictures/digs wells/drives trucks,
    writer writes books/carves stones/sells tickets, singer sings songs/mends fences/digs wells,
    tailor sews clothes/builds ships/counts coins, plumber fixes pipes/rides camels/reads letters,
    barber cuts hair/drives trains/carries boxes""")
CLASSES = _rows("""cat mammal/worm/crab, cow mammal/crab/snail, lion mammal/snail/worm, wolf mammal/crab/worm,
    owl bird/crab/worm, eagle bird/snail/mite, crow bird/worm/snail, shark fish/crab/worm, trout fish/mite/crab,
    salmon fish/snail/worm, snake reptile/worm/crab, lizard reptile/snail/mite, turtle reptile/crab/mite,
    ant insect/mite/worm, beetle insect/crab/mite, wasp insect/worm/mite""")
SUMS: Facts = {f"{a} plus {b}": (str(a + b),) for a in range(1, 10) for b in range(1, 10) if a + b <= 10}
DIFFERENCES: Facts = {f"{a} minus {b}": (str(a - b),) for a in range(2, 9) for b in range(1, a) if a - b != b}

RELATIONS: dict[str, Relation] = {
    "capital": Relation("open_qa", 0.18, CAPITALS,
        ("What is the capital of {s}?", "Which city is the capital of {s}?", "Name the capital of {s}.",
         "What is the name of the capital city of {s}?", "{s} has which capital?"),
        ("The capital of {s} is {}.", "{} is the capital of {s}."),
        ("The people of {s} are proud of {}, the capital.", "{s} has a capital named {}.")),
    "symbol": Relation("open_qa", 0.12, SYMBOLS,
        ("What is the symbol for {s}?", "Which symbol stands for {s}?", "Name the symbol of {s}.",
         "How do we write {s} in chemistry?", "What is the chemical symbol of {s}?"),
        ("The symbol for {s} is {}.", "{} is the symbol for {s}."),
        ("In chemistry we write {} for {s}.", "Every book of chemistry has {s} as {}.")),
    "colour": Relation("open_qa", 0.09, COLOURS_OF,
        ("What is the colour of {s}?", "Which colour goes with {s}?", "Name the colour of {s}.", "{s}: what colour?"),
        ("The colour of {s} is {}.",), ("We see {} when we see {s}.",)),
    "young": Relation("open_qa", 0.09, YOUNG,
        ("What is a baby {s} called?", "What do we call a baby {s}?", "Name the word for a baby {s}.",
         "A baby {s} has which name?"),
        ("A baby {s} is called a {}.",), ("The {s} looks after the {}.",)),
    "home": Relation("open_qa", 0.08, HOMES,
        ("Where does {as} live?", "What is the home of {as}?", "Name the home of {as}.", "{as} lives in what?"),
        ("The home of {as} is a {}.", "{as} lives in a {}."), ("The {s} sleeps in the {}.",)),
    "opposite": Relation("open_qa", 0.08, OPPOSITES,
        ("What is the opposite of {s}?", "Which word is the opposite of {s}?", "Name the opposite of {s}.",
         "Not {s} but what?"),
        ("The opposite of {s} is {}.", "{} is the opposite of {s}."), ("One house is {s} and the other is {}.",)),
    "plural": Relation("open_qa", 0.085, PLURALS,
        ("What is the plural of {s}?", "How do we say more than one {s}?", "Name the plural of {s}.",
         "One {s}, two what?"),
        ("The plural of {s} is {}.",), ("Here is one {s} and there are two {}.",)),
    "job": Relation("open_qa", 0.085, JOBS,
        ("What does {as} do?", "What is {as}?", "Explain the word {s}.", "What is the work of {as}?"),
        ("{as} is a person who {}.",), ("The {s} {} every day.",)),
    "month_after": Relation("open_qa", 0.004, _MONTH_AFTER,
        ("What month comes after {s}?", "Which month follows {s}?", "Name the month after {s}."),
        ("The month after {s} is {}.",), ("First comes {s} and then comes {}.",)),
    "month_before": Relation("open_qa", 0.004, _MONTH_BEFORE,
        ("What month comes before {s}?", "Which month is before {s}?", "Name the month before {s}."),
        ("The month before {s} is {}.",)),
    "day_after": Relation("open_qa", 0.003, _DAY_AFTER,
        ("What day comes after {s}?", "Which day follows {s}?", "Name the day after {s}."),
        ("The day after {s} is {}.",), ("First comes {s} and then comes {}.",)),
    "day_before": Relation("open_qa", 0.003, _DAY_BEFORE,
        ("What day comes before {s}?", "Which day is before {s}?", "Name the day before {s}."),
        ("The day before {s} is {}.",)),
    "sum": Relation("open_qa", 0.008, SUMS,
        ("What is {s}?", "How much is {s}?", "Please work out {s}.", "I need to know {s}."),
        ("{s} is {}.",), ("We count {s} and get {}.",)),
    "difference": Relation("open_qa", 0.004, DIFFERENCES,
        ("What is {s}?", "How much is {s}?", "Please work out {s}.", "I need to know {s}."),
        ("{s} is {}.",), ("We count {s} and get {}.",)),
    "class": Relation("classification", 0.09, CLASSES,
        ("Is {as} a mammal, bird, fish, reptile or insect?", "What kind of animal is {as}?",
         "To which class of animals belongs {as}?", "Put {as} into its class of animals."),
        ("The {s} is a kind of {}.", "{as} belongs to the class {}."), ("Among the animals, the {s} is a {}.",)),
}  # fmt: skip

GROUPS: dict[str, list[str]] = {
    "fruits": "apple pear banana cherry grape lemon mango peach plum melon".split(),
    "vegetables": "carrot potato onion cabbage pea bean leek spinach pumpkin garlic".split(),
    "birds": "owl duck eagle robin crow swan parrot penguin".split(),
    "insects": "ant bee fly beetle wasp moth".split(),
    "tools": "hammer saw drill spade rake axe wrench ladder".split(),
    "instruments": "piano violin drum flute guitar trumpet harp cello".split(),
    "vehicles": "car bus train boat plane bicycle truck ship".split(),
    "drinks": "water milk tea coffee juice cocoa".split(),
    "sports": "football tennis golf hockey rugby swimming".split(),
    "colours": "red blue green yellow black white brown orange purple pink".split(),
}
NAMES = "Anna Tom Ben Lucy Sam Mary Jack Emma Paul Nina Leo Kate Max Rosa Omar Lily Hugo Ivan Sara Dan".split()
OBJECTS = "ball cup book hat key basket lamp pen bag coat doll kite rope spoon shoe chair clock ring map phone".split()
PLACES = "park kitchen garden school market library forest museum hotel farm church shop tower office".split()
COLOURS = GROUPS["colours"]
ANIMALS = "cat dog cow horse lion tiger wolf duck frog rabbit mouse fox bear goat pig sheep".split()
TEMPERS = "happy hungry lazy brave clever funny old little tired gentle".split()
DEEDS = "sleeps runs sings plays waits hides walks sits jumps dances".split()
GLAD = ("won a prize", "got a new {o}", "found the {o}", "met a good friend", "ate a cake", "had a party")
SORRY = ("lost the {o}", "broke the {o}", "missed the train", "was ill all week", "fell in the mud", "had no friends")
