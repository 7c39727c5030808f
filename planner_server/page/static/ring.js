// The last rows of numbers, in columns that a plot takes as they are.

/** Keeps the newest `capacity` rows of `columns` numbers; `data()` returns views, oldest first. */
export class Ring {
  constructor(columns, capacity) {
    this.capacity = capacity;
    // Twice as long as needed: rows are moved to the front once per `capacity` pushes, and never copied otherwise.
    this.columns = Array.from({ length: columns }, () => new Float64Array(2 * capacity));
    this.clear();
  }

  clear() { this.start = 0; this.end = 0; }

  get length() { return this.end - this.start; }

  push(row) {
    if (this.end === 2 * this.capacity) {
      for (const column of this.columns) column.copyWithin(0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
    }
    this.columns.forEach((column, index) => { column[this.end] = row[index] ?? NaN; });
    this.end += 1;
    if (this.length > this.capacity) this.start += 1;
  }

  data() { return this.columns.map((column) => column.subarray(this.start, this.end)); }
  last(column) { return this.length ? this.columns[column][this.end - 1] : NaN; }
}
