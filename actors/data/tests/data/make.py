"""Writes the Parquet files beside it: python make.py, with pyarrow (made with 26.0.1). They are small and kept in the project."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent


def chat(text):
    return [{"role": "user", "content": text}]


def verl_rows():
    rows = []
    for i in range(7):
        rows.append(
            {
                "data_source": "sums" if i % 2 else "products",
                "prompt": chat(f"What is {i} + {i}?"),
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": str(2 * i)},
                "extra_info": {"index": i, "split": "train", "tags": ["a", None] if i else []},
            }
        )
    return rows


def write(name, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), HERE / name, **options)


def types():
    """Every kind of column that a question might have beside it."""
    table = pa.table(
        {
            "problem": ["p1", "p2"],
            "solution": [r"So \boxed{\frac{1}{2}}.", r"\boxed{1}, no, \boxed{7}"],
            "i8": pa.array([-1, None], pa.int8()),
            "u32": pa.array([4294967295, 0], pa.uint32()),
            "i64": pa.array([9007199254740993, None], pa.int64()),
            "f32": pa.array([0.1, None], pa.float32()),
            "f64": pa.array([0.1, float("nan")], pa.float64()),
            "flag": [True, None],
            "raw": pa.array([b"text", b"\xff\x00"], pa.binary()),
            "day": pa.array([0, None], pa.date32()),
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int32())),
            "nested": pa.array([[[1, 2], []], None], pa.list_(pa.list_(pa.int32()))),
            "large": pa.array(["l", None], pa.large_string()),
        }
    )
    pq.write_table(table, HERE / "types.parquet", compression="none")


def main():
    write("verl.parquet", verl_rows(), row_group_size=3)
    write("gsm8k.parquet", [{"question": f"{i} + 1?", "answer": f"Add.\n#### {i + 1}"} for i in range(5)], compression="zstd")
    trl = [{"prompt": chat(f"{i} * 2?"), "ground_truth": 2 * i} for i in range(4)]
    write("trl.parquet", trl, compression="gzip", data_page_version="2.0")
    write("lz4.parquet", [{"prompt": "q", "answer": "a"}, {"prompt": "r", "answer": "b"}], compression="lz4", use_dictionary=False)
    types()


if __name__ == "__main__":
    main()
