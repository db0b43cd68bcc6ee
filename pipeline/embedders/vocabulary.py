"""What the local embedder knows of words before it has seen any code: stems, weights, and words that mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEYWORDS: Final = _listed(
    """
    abstract and as assert async await begin bool boolean break case catch char class cls const continue def default del
    do double elif else elsif end enum except export extends extern false final finally float fn for from func function
    global goto if impl implements import in inline int interface is isinstance lambda len let long match mod mut new
    nil none nonlocal not null object or package pass print private protected pub public raise range return self short
    signed sizeof static str struct super switch then this throw throws true try type typeof undefined union unless
    unsigned use var void where while with yield
    """
)
STOP_WORDS: Final = _listed(
    """
    a all also an any are at be been being but by can do does each given had has have he i if into it its may more must
    no of on one only other per returns same should so such than that the their them then there these they this those to
    two used using via was we were when whether which will you
    """
)
COMMON: Final = _listed(
    """
    add append arg args argument attribute base check code context create current data default dict element error errors
    event exception file format get id index info init instance item items key keys line lines list make map message
    method module msg name names node obj option options path process read result results set size source start state
    string target text types update value values version write
    """
)
"""The words that most functions of any project hold, measured over 37,000 of them."""

SYNONYMS: Final = """
    remove delete drop discard erase unlink purge clear destroy strip pop evict clean
    create make new build construct generate produce init initialize instantiate allocate spawn setup
    get fetch load read retrieve obtain receive pull acquire
    set assign update put write store save modify change edit replace patch
    find search locate seek lookup query scan match discover
    add append insert push extend register attach include
    check verify validate ensure test assert confirm
    parse decode deserialize unmarshal tokenize lex
    format serialize encode dump render marshal stringify
    send post emit publish dispatch transmit notify broadcast upload
    start begin open launch run execute invoke call
    stop end close finish shutdown terminate halt kill abort cancel quit exit
    convert transform cast translate coerce map adapt
    compute calculate count sum evaluate measure total
    split divide partition chunk separate slice
    join merge combine concat concatenate union
    compare diff equal differ cmp
    sort order rank arrange
    copy clone duplicate dup
    list enumerate iterate iter each walk traverse items loop
    error exception failure fail fault raise throw
    message msg text string str
    directory dir folder
    file filename document
    function func fn method callable callback handler
    argument arg parameter param args option kwargs opts
    configuration config settings setting cfg preferences conf
    connection conn socket connect link
    request req
    response resp reply answer result
    database db sql
    user account member
    number num integer int
    index idx position pos offset
    length len size
    maximum max largest biggest
    minimum min smallest
    previous prev last
    temporary temp tmp
    authenticate auth login authorize credential password
    repository repo
    variable var
    attribute attr property field prop
    value val
    environment env
    character char
    dictionary dict mapping hash
    array vector sequence seq
    thread worker process task job
    queue buffer
    wait sleep block delay pause
    lock mutex
    log logger logging record
    cache memo memoize
    time date timestamp datetime clock
    random rand shuffle
    image picture img
    color colour
    address addr
    reference ref pointer ptr
    source src origin
    destination dest dst target
    key name identifier id
    allow permit enable
    disable deny forbid
    show display print draw
    hide conceal
    encrypt cipher
    compress zip gzip deflate pack
    decompress unzip inflate unpack extract
    retry repeat again attempt
    limit bound cap throttle quota
    resize scale shrink grow zoom
    schedule timer cron interval
    mail email smtp
    sign signature
    encode escape quote
    decode unescape unquote
    parent ancestor
    child descendant
    permission privilege role access
    missing absent unknown
    old stale expired outdated
    filter select choose pick where
    reverse invert flip
"""
SUFFIXES: Final = (
    ("ization", "ize"),
    ("ations", "ate"),
    ("ation", "ate"),
    ("sses", "ss"),
    ("ies", "y"),
    ("ied", "y"),
    ("ingly", ""),
    ("edly", ""),
    ("ing", ""),
    ("ers", ""),
    ("ors", ""),
    ("er", ""),
    ("or", ""),
    ("ed", ""),
    ("es", ""),
    ("ly", ""),
    ("s", ""),
)
SHORTEST_STEM: Final = 3
DOUBLED: Final = "bdfgmnprt"


def stem(word: str) -> str:
    """Return what the forms of a word share (`parsing`, `parses`, `parser` → `pars`); short words stay as they are."""
    if len(word) <= SHORTEST_STEM or not word.isalpha() or word.endswith("ss"):
        return word
    for suffix, ending in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= SHORTEST_STEM:
            return _bare(word.removesuffix(suffix) + ending)
    return _bare(word)


def _bare(word: str) -> str:
    """Undo the doubling (`stopp`) and drop the final e (`parse`)."""
    if len(word) <= SHORTEST_STEM:
        return word
    if word[-1] == word[-2] and word[-1] in DOUBLED:
        return word[:-1]
    return word.removesuffix("e")


def weight(word: str) -> float:
    """Return how much a word says of the code it stands in, 0 to 1."""
    if word in STOP_WORDS:
        return 0.1
    if word in KEYWORDS:
        return 0.2
    if len(word) <= 2 or word.isdigit():  # noqa: PLR2004 - single letters and abbreviations
        return 0.5
    return 0.7 if word in COMMON else 1.0


def _concepts() -> dict[str, str]:
    """Return the first word of each line of synonyms, by the stem of every word of the line; the first line wins."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.split, SYNONYMS.splitlines())):
        for word in line:
            found.setdefault(stem(word), line[0])
    return found


CONCEPTS: Final[Mapping[str, str]] = _concepts()
