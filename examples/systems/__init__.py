"""The systems around RM-HSAOCL, a short file each; ``python examples/rmhsaocl_full.py --system NAME`` trains them."""

from recsys.next_item import NextItem
from systems.asrep import ASReP
from systems.diffuasr import DiffuASR
from systems.duorec import DuoRec

SYSTEMS: dict[str, type[NextItem]] = {
    "asrep": ASReP,
    "diffuasr": DiffuASR,
    "duorec": DuoRec,
}
