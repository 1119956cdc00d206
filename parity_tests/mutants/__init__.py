"""The suite is tested too: deliberate mistakes, each planted in a copy of the code, each of which a promise must see.

python -m parity_tests.mutants [NAME...] [--seeds N] [--report FILE]
"""
