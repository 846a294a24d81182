"""The systems around RM-HSAOCL, a short file each; ``python examples/rmhsaocl_full.py --system NAME`` trains them."""

from recsys.next_item import NextItem
from systems.asrep import ASReP
from systems.cl4srec import CL4SRec
from systems.coserec import CoSeRec
from systems.diffuasr import DiffuASR
from systems.duorec import DuoRec
from systems.ticoserec import TiCoSeRec

SYSTEMS: dict[str, type[NextItem]] = {
    "asrep": ASReP,
    "cl4srec": CL4SRec,
    "coserec": CoSeRec,
    "diffuasr": DiffuASR,
    "duorec": DuoRec,
    "ticoserec": TiCoSeRec,
}
