"""What a server accepts, and how long it waits: bounds that hold before anything expensive starts."""

from dataclasses import dataclass, fields

from bebert_infer.errors import InputError
from bebert_infer.limits import is_whole
from bebert_infer.text.windows import LongTexts

COUNTS = ("body_bytes", "texts", "characters", "queue", "batch", "connections", "held_bytes")
SECONDS = ("read_timeout", "answer_timeout", "keep_alive", "grace")


@dataclass(frozen=True)
class Settings:
    """Limits of a server, each above 0.

    body_bytes, texts, characters : of a request, in a request, of one text (each side of a pair for itself)
    queue        : texts that wait for the engine; a request beyond it is refused with 503
    batch        : texts, or windows of long ones, in one call of the engine
    gather       : seconds that the engine waits for more texts, if the call before had several; 0 and more
    connections  : at the same time; held_bytes : of bodies in memory at the same time
    read_timeout : seconds for the head of a request, and again for its body
    answer_timeout : seconds from the body to the answer
    keep_alive   : seconds that a connection may be idle          grace : seconds for the end after SIGTERM
    long         : what to do with texts of too many tokens, unless a request says `truncate`
    token        : the bearer token that requests must have, or None
    Raises InputError for values that cannot be.
    """

    body_bytes: int = 2**20
    texts: int = 128
    characters: int = 20_000
    queue: int = 1024
    batch: int = 32
    gather: float = 0.002
    connections: int = 1024
    held_bytes: int = 2**26
    read_timeout: float = 10.0
    answer_timeout: float = 30.0
    keep_alive: float = 15.0
    grace: float = 30.0
    long: LongTexts = LongTexts()
    token: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in COUNTS and (not is_whole(value) or value < 1):
                raise InputError(f"the limit of {name} is {value!r}; accepted are whole numbers from 1")
            if name in SECONDS and not 0 < value < 1e6:
                raise InputError(f"{name} is {value!r}; accepted are seconds above 0")
        if not 0 <= self.gather <= 1:
            raise InputError(f"gather is {self.gather!r}; accepted are 0 to 1 second")
        if self.texts > self.queue:
            raise InputError(f"a request may have {self.texts} texts, but the queue takes {self.queue}; allow it more")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise InputError("the token has characters that no HTTP header carries; use letters, digits, - . _ ~ + /")
