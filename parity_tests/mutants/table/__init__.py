"""The deliberate mistakes, by the part of the code that they are made in."""

from parity_tests.mutants.table import attention, conversion, embedding, layers, pooling, positions, training, updates

MUTANTS = {
    mutant.name: mutant
    for part in (attention, layers, embedding, pooling, positions, conversion, training, updates)
    for mutant in part.MUTANTS
}
