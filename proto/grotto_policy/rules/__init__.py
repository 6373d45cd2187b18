"""The rules, one module per kind; each offers `NODES` and `judge(node, scope, context)`."""
