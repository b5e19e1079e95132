// A name that isn't there → those that may have been meant. Pure.

/** A name as one who doesn't mind letter case reads it. */
export function lower(name = ''): string {
  return name.normalize().toLowerCase();
}

/** The entries whose names are like the wanted one, the likest first. */
export function closest<T extends { readonly name: string }>(wanted: string, entries: readonly T[]): T[] {
  const stem = (name: string) => lower(name).replace(/\.[^.]*$/, '');
  const bound = Math.min(8, Math.ceil(stem(wanted).length / 3));
  return entries
    .map((entry) => {
      const byName = distance(lower(wanted), lower(entry.name), bound);
      // The same name with another ending is near, but less so than a slip of the same length.
      const byStem = distance(stem(wanted), stem(entry.name), bound) + 0.5;
      return { entry, far: Math.min(byName, byStem) };
    })
    .filter(({ far }) => far <= bound + 0.5)
    .sort((a, b) => a.far - b.far)
    .map(({ entry }) => entry);
}

/** How many letters have to be put in, taken out or changed (Levenshtein); `Infinity` if more than `bound`. */
function distance(a: string, b: string, bound: number): number {
  if (Math.abs(a.length - b.length) > bound) return Number.POSITIVE_INFINITY;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  const far = row[b.length] ?? 0;
  return far <= bound ? far : Number.POSITIVE_INFINITY;
}
