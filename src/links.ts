// Symbolic links inside the watched folders: what one leads to has two names, and a page may use either.
// Targets outside of the watched folders are none of ours, and their changes not even looked for, unless links are followed.

import { readlink, realpath } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import type { Found } from './events.ts';

export interface Links {
  /** Finds out where the link leads to now. */
  put(link: string): Promise<void>;
  delete(link: string): void;
  /** Where a link leads to, as a path below a watched folder; `undefined`: to nowhere, or outside. */
  target(link: string): string | undefined;
  /** The change, and the same under every other name of the file. */
  withAliases(change: Found): readonly Found[];
  /** The file's name without links. */
  unaliased(file: string): string;
  /** A real path as one below a watched folder, which may itself be reached through links. */
  asWatched(real: string): Promise<string | undefined>;
}

export interface LinksOptions {
  /** Is it, under this name, in a watched folder and not ignored? */
  isOwn(file: string): boolean;
  /** Hears of each real path outside of the watched folders that a link leads to: it is watched too. */
  readonly follow?: ((real: string) => void) | undefined;
  /** No link leads there any more. */
  readonly forsake?: (real: string) => void;
}

/** Links that lead to links have a name for each way; of ways that lead in circles, so many turns. */
const TURNS = 3;

export function createLinks(roots: readonly string[], { isOwn, follow, forsake }: LinksOptions): Links {
  const targets = new Map<string, string>();
  const followed = new Set<string>();

  async function asWatched(real: string): Promise<string | undefined> {
    for (const root of roots) {
      const base = await realOf(root);
      if (isWithin(base, real)) return join(root, relative(base, real));
    }
    for (const path of followed) if (isWithin(path, real)) return real;
    return undefined;
  }

  /** Not if a watched folder is in it: that might be the whole disk. */
  async function isFollowed(real: string): Promise<boolean> {
    for (const root of roots) if (isWithin(real, await realOf(root))) return false;
    return follow !== undefined;
  }

  /** In one step: no other link's change comes between a followed path and the link that leads there. */
  function set(link: string, target: string | undefined, isNew: boolean): void {
    const before = targets.get(link);
    if (target === undefined || target === link) targets.delete(link);
    else targets.set(link, target);
    if (isNew && target !== undefined && !followed.has(target)) {
      followed.add(target);
      follow?.(target);
    }
    if (before === undefined || before === target) return;
    for (const path of followed) {
      if ([...targets.values()].some((target) => isWithin(path, target))) continue;
      followed.delete(path);
      forsake?.(path);
    }
  }

  function namesOf(file: string, passed: readonly string[] = []): string[] {
    if (passed.length >= TURNS) return [file];
    const others = [...targets].flatMap(([link, target]) =>
      isWithin(target, file) && !passed.includes(link)
        ? namesOf(link + file.slice(target.length), [...passed, link])
        : [],
    );
    return [file, ...others];
  }

  return {
    async put(link) {
      const real = await realpath(link).catch(() => nextOf(link));
      const target = real === undefined ? undefined : await asWatched(real);
      const isNew = real !== undefined && target === undefined && (await isFollowed(real));
      set(link, isNew ? real : target, isNew);
    },
    delete: (link) => set(link, undefined, false),
    target: (link) => targets.get(link),
    withAliases(change) {
      const names = new Set(namesOf(change.file).filter(isOwn));
      return [...names].map((file) => ({ ...change, file }));
    },
    unaliased(file) {
      let name = file;
      for (let i = 0; i < TURNS; i++) {
        for (const [link, target] of targets) {
          if (!isWithin(link, name)) continue;
          name = target + name.slice(link.length);
          break;
        }
      }
      return name;
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

function realOf(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}

// A link that leads to nothing yet.
async function nextOf(link: string): Promise<string | undefined> {
  const target = await readlink(link).catch(() => undefined);
  return target === undefined ? undefined : resolve(dirname(link), target);
}
