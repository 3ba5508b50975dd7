"""A training program that knows nothing of this kit: arguments, an output folder, a checkpoint that it resumes from."""

import argparse
import json
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--print-first", action="store_true")
    parser.add_argument("--style", choices=("json", "python", "text"), default="json")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--trace", type=Path)
    args = parser.parse_args()

    saved = args.output_dir / "last.json" if args.output_dir else None
    state = json.loads(saved.read_text()) if saved and saved.exists() else {"epoch": 0, "weight": 0.0, "epochs": []}
    print(f"starting with lr={args.lr} width={args.width} from epoch {state['epoch']}", file=sys.stderr)
    for epoch in range(state["epoch"] + 1, args.epochs + 1):
        time.sleep(args.seconds)
        state["weight"] += args.lr * (1.0 - state["weight"])
        state["epoch"] = epoch
        state["epochs"].append(epoch)
        if args.trace:
            with args.trace.open("a") as file:
                file.write(f"{args.lr} {epoch}\n")
        if not args.print_first and saved:
            save(saved, state)
        show(args.style, epoch, (1.0 - state["weight"]) ** 2)
        if args.print_first and saved:
            save(saved, state)
    print("done")


def save(path: Path, state: dict) -> None:
    """Written slowly and in place, as large models are."""
    with path.open("w") as file:
        text = json.dumps(state)
        for part in (text[:5], text[5:]):
            file.write(part)
            file.flush()
            time.sleep(0.02)


def show(style: str, epoch: int, loss: float) -> None:
    if style == "json":
        print(json.dumps({"epoch": epoch, "loss": loss, "note": "fine"}))
    elif style == "python":
        print({"loss": f"{loss:.4f}", "epoch": str(epoch)})
    else:
        print(f"epoch {epoch:3d}: batch 10/10\rEpoch {epoch}  loss: {loss:.6f}  lr: fine")


if __name__ == "__main__":
    main()
