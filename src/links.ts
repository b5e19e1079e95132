// Symbolic links inside the watched folders: what one leads to has two names, and a page may use either.
// Targets outside of the watched folders are none of ours: their changes are not even looked for.

import { readlink, realpath } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import type { Change } from './events.ts';

export interface Links {
  /** Finds out where the link leads to now. */
  put(link: string): Promise<void>;
  delete(link: string): void;
  /** Where a link leads to, as a path below a watched folder; `undefined`: to nowhere, or outside. */
  target(link: string): string | undefined;
  /** The change, and the same under every other name of the file. */
  withAliases(change: Change): readonly Change[];
  /** The file's name without links. */
  unaliased(file: string): string;
  /** A real path as one below a watched folder, which may itself be reached through links. */
  asWatched(real: string): Promise<string | undefined>;
}

export function createLinks(roots: readonly string[]): Links {
  const targets = new Map<string, string>();

  async function asWatched(real: string): Promise<string | undefined> {
    for (const root of roots) {
      const base = await realpath(root).catch(() => root);
      if (isWithin(base, real)) return join(root, relative(base, real));
    }
    return undefined;
  }

  return {
    async put(link) {
      const real = await realpath(link).catch(() => nextOf(link));
      const target = real === undefined ? undefined : await asWatched(real);
      if (target === undefined || target === link) targets.delete(link);
      else targets.set(link, target);
    },
    delete: (link) => void targets.delete(link),
    target: (link) => targets.get(link),
    withAliases(change) {
      const changes = [change];
      for (const [link, target] of targets) {
        if (isWithin(target, change.file))
          changes.push({ ...change, file: link + change.file.slice(target.length) });
      }
      return changes;
    },
    unaliased(file) {
      for (const [link, target] of targets) if (isWithin(link, file)) return target + file.slice(link.length);
      return file;
    },
    asWatched,
  };
}

/** Is the file the folder, or anything below it? On Windows in any letter case. */
export function isWithin(dir: string, file: string, separator: string = sep): boolean {
  const begin = dir.endsWith(separator) ? dir : dir + separator;
  if (file === dir || file.startsWith(begin)) return true;
  return separator === '\\' && (file + separator).toLowerCase().startsWith(begin.toLowerCase());
}

// A link that leads to nothing yet.
async function nextOf(link: string): Promise<string | undefined> {
  const target = await readlink(link).catch(() => undefined);
  return target === undefined ? undefined : resolve(dirname(link), target);
}
