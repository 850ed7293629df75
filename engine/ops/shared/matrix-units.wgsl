enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
// Matrices of one shape that the adapter's matrix units multiply: LeftMatrix · RightMatrix + SumMatrix. A subgroup holds each of
// them as a whole, in a layout that only the driver knows. So sums reach other code through memory, and operands come from memory.
// Operands are f16, sums f32. Two halves per word: offsets and strides of loads count elements of the array, whatever their type.
// Constants  MATRIX_ROWS, MATRIX_COLUMNS, MATRIX_STEPS: a shape from the adapter's list (ops/shared/matrix-units.ts).
// The diagnostic is off because a compiler cannot see that a subgroup's number is the same for all its invocations.
alias LeftMatrix = subgroup_matrix_left<f16, MATRIX_STEPS, MATRIX_ROWS>;
alias RightMatrix = subgroup_matrix_right<f16, MATRIX_COLUMNS, MATRIX_STEPS>;
alias SumMatrix = subgroup_matrix_result<f32, MATRIX_COLUMNS, MATRIX_ROWS>;
