#!/usr/bin/env python3
"""Splits the data and fits the weights of the medical check; standard library only, in a second.

    python3 train.py            writes data/split.json, data/held-out.csv, model.json and the model block of src/index.ts
    python3 train.py --check    computes them again and fails unless the committed files have exactly these bytes

The result is the same to the last bit on every machine: nothing but + - * / and square root touches a number (IEEE 754
rounds those in one way only; `exp` of the C library may differ), and sums are explicit loops (`sum()` changed in Python 3.12).
"""

import hashlib
import json
import math
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
FEATURES = 30
HELD_OUT = 171
RIDGE = 1.0
STEPS = 25
BEGIN, END = "// <model> written by train.py\n", "// </model>\n"


def read_rows():
    lines = (HERE / "data" / "breast_cancer.csv").read_text("ascii").splitlines()
    if lines[0] != "569,30,malignant,benign":
        raise SystemExit(f"unexpected header {lines[0]!r}")
    rows = [line.split(",") for line in lines[1:]]
    assert len(rows) == 569 and all(len(row) == FEATURES + 1 for row in rows)
    # The file says 0 for malignant; the model predicts malignancy, so the label turns round.
    return lines[1:], [[float(cell) for cell in row[:FEATURES]] for row in rows], [1 - int(row[FEATURES]) for row in rows]


def split(lines):
    """Held out are the rows whose text has the smallest SHA-256: fixed by the data alone, chosen by nobody."""
    order = sorted(range(len(lines)), key=lambda index: hashlib.sha256(lines[index].encode("ascii")).digest())
    return sorted(order[HELD_OUT:]), sorted(order[:HELD_OUT])


def exp_negative(x):
    """e^-x for x >= 0 by a Taylor series at x/1024 and ten squarings; + * / alone."""
    if x > 700.0:
        return 0.0
    y = -x / 1024.0
    term, total = 1.0, 1.0
    for k in range(1, 13):
        term = term * y / k
        total = total + term
    for _ in range(10):
        total = total * total
    return total


def sigmoid(z):
    if z >= 0.0:
        return 1.0 / (1.0 + exp_negative(z))
    small = exp_negative(-z)
    return small / (1.0 + small)


def standardise(rows):
    means, scales = [], []
    for column in range(FEATURES):
        total = 0.0
        for row in rows:
            total += row[column]
        mean = total / len(rows)
        squares = 0.0
        for row in rows:
            squares += (row[column] - mean) * (row[column] - mean)
        means.append(mean)
        scales.append(math.sqrt(squares / len(rows)))
    scaled = [[1.0] + [(row[c] - means[c]) / scales[c] for c in range(FEATURES)] for row in rows]
    return means, scales, scaled


def solve(matrix, vector):
    """Gauss with partial pivoting; the matrix is positive definite."""
    n = len(vector)
    rows = [matrix[i][:] + [vector[i]] for i in range(n)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: (abs(rows[r][i]), -r))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, n):
            factor = rows[r][i] / rows[i][i]
            if factor != 0.0:
                for c in range(i, n + 1):
                    rows[r][c] -= factor * rows[i][c]
    out = [0.0] * n
    for i in range(n - 1, -1, -1):
        value = rows[i][n]
        for c in range(i + 1, n):
            value -= rows[i][c] * out[c]
        out[i] = value / rows[i][i]
    return out


def fit(rows, labels):
    """Logistic regression with a ridge on every weight but the bias, by Newton's method."""
    n = FEATURES + 1
    weights = [0.0] * n
    for _ in range(STEPS):
        gradient = [0.0] + [RIDGE * w for w in weights[1:]]
        hessian = [[0.0] * n for _ in range(n)]
        for i in range(1, n):
            hessian[i][i] = RIDGE
        for row, label in zip(rows, labels):
            z = 0.0
            for weight, value in zip(weights, row):
                z += weight * value
            p = sigmoid(z)
            curvature = p * (1.0 - p)
            for i in range(n):
                gradient[i] += (p - label) * row[i]
                scaled = curvature * row[i]
                line = hessian[i]
                for j in range(i + 1):
                    line[j] += scaled * row[j]
        for i in range(n):
            for j in range(i):
                hessian[j][i] = hessian[i][j]
        step = solve(hessian, gradient)
        weights = [weight - delta for weight, delta in zip(weights, step)]
    if max(abs(delta) for delta in step) > 1e-9:
        raise SystemExit("the fit did not converge")
    return weights


def model_of(rows, labels):
    means, scales, scaled = standardise(rows)
    standard = fit(scaled, labels)
    weights = [standard[i + 1] / scales[i] for i in range(FEATURES)]
    bias = standard[0]
    for weight, mean in zip(weights, means):
        bias -= weight * mean
    # Ten significant digits: far finer than the data, and short enough to read.
    return {"bias": float(f"{bias:.10g}"), "weights": [float(f"{weight:.10g}") for weight in weights]}


def logit(model, row):
    z = model["bias"]
    for weight, value in zip(model["weights"], row):
        z += weight * value
    return z


def accuracy(model, rows, labels):
    return len([1 for row, label in zip(rows, labels) if (logit(model, row) > 0.0) == (label == 1)])


def block_of(model):
    lines = [f"const bias = {model['bias']!r};\n", "const weights = [\n"]
    for start in range(0, FEATURES, 5):
        lines.append("  " + " ".join(f"{weight!r}," for weight in model["weights"][start : start + 5]) + "\n")
    return BEGIN + "".join(lines) + "];\n" + END


def main():
    lines, rows, labels = read_rows()
    train, held_out = split(lines)
    model = model_of([rows[i] for i in train], [labels[i] for i in train])
    script = (HERE / "src" / "index.ts").read_text("utf-8")
    before, rest = script.split(BEGIN)
    _, after = rest.split(END)
    files = {
        "data/split.json": json.dumps({"train": train, "heldOut": held_out}, separators=(",", ":")) + "\n",
        "data/held-out.csv": "".join(lines[i] + "\n" for i in held_out),
        "model.json": json.dumps(model, indent=2) + "\n",
        "src/index.ts": before + block_of(model) + after,
    }
    if sys.argv[1:] == ["--check"]:
        for name, text in files.items():
            if (HERE / name).read_text("utf-8") != text:
                raise SystemExit(f"{name} is not what train.py writes")
        print("committed files are what train.py writes")
    elif sys.argv[1:]:
        raise SystemExit(__doc__)
    else:
        for name, text in files.items():
            (HERE / name).write_text(text, "utf-8")
    for name, indices in (("training", train), ("held-out", held_out)):
        right = accuracy(model, [rows[i] for i in indices], [labels[i] for i in indices])
        print(f"{name}: {right} of {len(indices)} right ({100.0 * right / len(indices):.2f} %)")


if __name__ == "__main__":
    main()
