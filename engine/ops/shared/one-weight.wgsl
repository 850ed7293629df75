// Where the weight of a row begins: one weight for all rows.
fn slotStart(_row: u32) -> u32 { return 0u; }
