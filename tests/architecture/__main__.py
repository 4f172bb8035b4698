"""`python -m tests.architecture`: the house, measured; `--write` renews CONTRIBUTING's table."""

from __future__ import annotations

import sys

from tests.architecture import law
from tests.architecture.contributing import write_table


def main() -> int:
    if "--write" in sys.argv[1:]:
        write_table()
    sizes = law.folder_sizes()
    total = sum(sizes.values())
    wrong = [
        sentence
        for file in law.sources()
        for sentence in law.trespasses(
            law.module_name(file), file.read_text(encoding="utf-8"), file.name == "__init__.py"
        )
    ]
    print(f"{total:,} lines of product in {len(law.sources())} files")
    for name, size in sizes.items():
        print(f"  {size:6,}  {size / total:5.1%}  {name}/")
    faults = {
        "against the law": wrong,
        "circles of folders": law.circles(law.arrows()),
        f"lines above {law.MOST_LINES:,}": [f"{total - law.MOST_LINES:,}"] if total > law.MOST_LINES else [],
        f"rooms above {law.LARGEST_ROOM:.0%}": [
            name for name, size in sizes.items() if size > law.LARGEST_ROOM * total
        ],
        f"files above {law.MOST_LINES_OF_A_FILE} lines": law.long_files(),
        f"functions above {law.MOST_LINES_OF_A_FUNCTION} lines": law.long_functions(),
        "modules without a test file of their name": law.without_tests(),
    }
    for what, found in faults.items():
        print(f"{what}: {len(found) or 'none'}")
        for sentence in found:
            print(f"  {sentence}")
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
