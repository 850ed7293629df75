// The row of a pick within this cell: of its table, or its own. It wraps around, to a number not below params.source, if another
// cell has the row.
fn rowOfPick(pick: u32) -> u32 {
  let own = params.picksStart + pick;
  if (params.hasRows == 0u) { return own - params.sourceStart; }
  return rowOf[params.rowOfBase + pick] - params.firstRow - params.sourceStart;
}
