"""What a page consists of, as plain data: sections of paragraphs, tables, charts and pictures.

Who makes them knows nothing of HTML, and the template (`template/page.html.j2`) nothing of runs. Every text is escaped
there; what is HTML already is `Markup` and comes from `charts` and `drawings` alone.
"""

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Tone = Literal["plain", "good", "warning", "soft"]


@dataclass(frozen=True)
class Paragraph:
    text: str
    tone: Tone = "plain"
    kind: str = "paragraph"


@dataclass(frozen=True)
class Tile:
    """A number that is seen first; what it is, and what it is to be held against."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    tiles: tuple[Tile, ...]
    kind: str = "tiles"


@dataclass(frozen=True)
class Facts:
    """Names and what is to be said of each."""

    rows: tuple[tuple[str, str], ...]
    title: str = ""
    kind: str = "facts"


@dataclass(frozen=True)
class Command:
    """What is typed in a shell."""

    line: str
    label: str
    kind: str = "command"


@dataclass(frozen=True)
class Legend:
    """How a series of a chart is drawn: the number of its colour, dashed or not, dots or a line."""

    name: str
    look: int
    form: str


@dataclass(frozen=True)
class Drawing:
    """A picture in the page.

    Attributes:
      svg: with its own title and description. narrow: the same for a small screen; without it the picture is moved
        sideways there if it is `wide`.
    """

    svg: Markup
    caption: str = ""
    narrow: Markup | None = None
    wide: bool = False
    legend: tuple[Legend, ...] = ()
    label: str = ""
    kind: str = "drawing"


@dataclass(frozen=True)
class Drawings:
    """Small pictures side by side."""

    drawings: tuple[Drawing, ...]
    kind: str = "drawings"


@dataclass(frozen=True)
class Column:
    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Cell:
    """Of a table.

    Attributes:
      key: what it is sorted by, where that is not its text; None: nothing is there, which is last in either order.
      href: relative address, quoted.
    """

    text: str
    key: float | str | None = None
    href: str | None = None


@dataclass(frozen=True)
class Table:
    """Sortable by every column; the first cell of a row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    label: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Shade:
    """A cell of a grid: its text, what is said of it aloud where that is not enough, and how dark it is, 0 to 10."""

    text: str
    level: int = 0
    strong: bool = False
    spoken: str = ""


@dataclass(frozen=True)
class Grid:
    """A table read at sight: rows and columns with names, cells the darker the more."""

    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shade, ...]], ...]
    label: str = ""
    kind: str = "grid"


@dataclass(frozen=True)
class Side:
    """Blocks that stand side by side where there is room."""

    blocks: "tuple[Block, ...]"
    kind: str = "side"


@dataclass(frozen=True)
class Photo:
    """An image as a `data:` address; its description, and what stands below."""

    address: str
    description: str
    title: str
    note: str
    is_pixels: bool


@dataclass(frozen=True)
class Photos:
    photos: tuple[Photo, ...]
    kind: str = "photos"


@dataclass(frozen=True)
class Details:
    """What is folded until it is asked for."""

    summary: str
    blocks: "tuple[Block, ...]"
    kind: str = "details"


Block = Paragraph | Tiles | Facts | Command | Drawing | Drawings | Table | Grid | Side | Photos | Details


@dataclass(frozen=True)
class Section:
    """`name` is its anchor in the page."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Chapter:
    """What is said of one run; the title is left out where a page has one chapter."""

    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Page:
    title: str
    subtitle: str
    chapters: tuple[Chapter, ...]
