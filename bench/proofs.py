"""Small proofs for `danlu verify`: what danlu computes beside an independent reference, one number each.

`danlu verify` 用的小型验证：把 danlu 的计算结果与独立的参照实现对比，每项给出一个数。

    python bench/proofs.py cosine-schedule --json proof.json
    python bench/proofs.py                     # all of them / 全部

The names are those of the rows in course/roadmap.yaml. A figure called `difference` is a distance from the reference.
"""

import contextlib
import io
import time
from collections.abc import Callable

import _proofs_data
import _proofs_families
import _proofs_generate
import _proofs_models
import _proofs_stages
import _proofs_text
import _proofs_train
import _proofs_translate
from _common import arguments, show, write

PROOFS: dict[str, Callable[[], dict[str, float]]] = {
    **_proofs_train.PROOFS,
    **_proofs_models.PROOFS,
    **_proofs_families.PROOFS,
    **_proofs_text.PROOFS,
    **_proofs_data.PROOFS,
    **_proofs_stages.PROOFS,
    **_proofs_generate.PROOFS,
    **_proofs_translate.PROOFS,
}
WORK = "danlu beside independent references / danlu 与独立参照实现的对比"


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PROOFS)} (default: all / 默认全部)")
    read = parser.parse_args()
    if unknown := [name for name in read.names if name not in PROOFS]:
        parser.error(f"no proof {', '.join(unknown)}; there are {', '.join(PROOFS)}")
    found, seconds = {}, {}
    for name in read.names or PROOFS:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # what the verbs tell people
            found[name] = PROOFS[name]()
        seconds[name] = [time.perf_counter() - start]
    rows = [(name, figure, value) for name, figures in found.items() for figure, value in figures.items()]
    show(("proof", "figure", "value"), rows)
    print()
    write(read.json, WORK, {}, seconds, proofs=found)


if __name__ == "__main__":
    main()
