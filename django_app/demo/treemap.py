"""A treemap: one rectangle per package, its area the lines, its depth of colour how branched the functions are.

The squarified layout of Bruls, Huizing and van Wijk: rows of rectangles are laid along the shorter side, and a row
grows as long as that makes its rectangles squarer. Pure arithmetic; the template draws it.
"""

from dataclasses import dataclass

WIDTH, HEIGHT = 960.0, 420.0
SHADES = 5
NUMBER_WIDTH_MIN = 100.0
CHARACTER_WIDTH = 7.4
LINE_HEIGHT = 16.0


@dataclass(frozen=True, slots=True)
class Tile:
    """What one rectangle stands for."""

    name: str
    lines: int
    branching: float
    functions: int


Sized = tuple[Tile, float]


@dataclass(frozen=True, slots=True)
class Box:
    """One rectangle in its place; texts that do not fit are left out and stay in the tool tip."""

    tile: Tile
    x: float
    y: float
    width: float
    height: float
    shade: int

    @property
    def name_fits(self) -> bool:
        """Return whether there is room for the name."""
        return self.width > len(self.tile.name) * CHARACTER_WIDTH + 12 and self.height > LINE_HEIGHT + 6

    @property
    def number_fits(self) -> bool:
        """Return whether there is room for the number of lines below the name."""
        return self.name_fits and self.width > NUMBER_WIDTH_MIN and self.height > 2 * LINE_HEIGHT + 8


def treemap(tiles: list[Tile]) -> list[Box]:
    """Lay the tiles out, which come the largest first, on WIDTH x HEIGHT."""
    whole = sum(tile.lines for tile in tiles)
    waiting = [(tile, tile.lines / whole * WIDTH * HEIGHT) for tile in tiles]
    shades = shade_by_rank(tiles)
    boxes: list[Box] = []
    x, y, width, height = 0.0, 0.0, WIDTH, HEIGHT
    while waiting:
        side = min(width, height)
        row, waiting = take_row(waiting, side)
        thickness = sum(area for _, area in row) / side
        offset = 0.0
        for tile, area in row:
            length = area / thickness
            if width >= height:
                boxes.append(Box(tile, x, y + offset, thickness, length, shades[tile.name]))
            else:
                boxes.append(Box(tile, x + offset, y, length, thickness, shades[tile.name]))
            offset += length
        if width >= height:
            x, width = x + thickness, width - thickness
        else:
            y, height = y + thickness, height - thickness
    return boxes


def take_row(waiting: list[Sized], side: float) -> tuple[list[Sized], list[Sized]]:
    """Split off the tiles that make the squarest row along `side`."""
    count = 1
    while count < len(waiting):
        now, more = (worst([area for _, area in waiting[:size]], side) for size in (count, count + 1))
        if more > now:
            break
        count += 1
    return waiting[:count], waiting[count:]


def worst(areas: list[float], side: float) -> float:
    """Return the least square ratio of sides in a row of these areas."""
    total = sum(areas)
    return max(side**2 * max(areas) / total**2, total**2 / (side**2 * min(areas)))


def shade_by_rank(tiles: list[Tile]) -> dict[str, int]:
    """Return a shade of 0 to SHADES - 1 for each name, by the rank of its branching, so that all shades are used."""
    ranked = sorted(tiles, key=lambda tile: (tile.branching, tile.name))
    return {tile.name: rank * SHADES // len(ranked) for rank, tile in enumerate(ranked)}
