"""The paper's experiments, each a declared entry of paper.yaml, and the ledger of what came out."""
