// One look at an entry: what has it become, and is that news? Everything is asked of the disk, nothing of the event.

import type { Stats } from 'node:fs';
import { lstat, stat } from 'node:fs/promises';
import type { Bytes } from './bytes.ts';
import type { Found } from './events.ts';
import type { Links } from './links.ts';
import type { Look, Save } from './settle.ts';
import { idOf, type Tree } from './tree.ts';

/** How long (ms) a deleted file is waited for: many editors save by deleting. */
const GONE = 60;
/** How long an empty file is waited for: saving begins with emptying. */
const EMPTY = 500;
/**
 * How long a file that looks like a part has to keep its length to be taken for complete: so many times the longest pause in
 * its writing so far, within bounds; and what ends all doubt.
 */
const PAUSES = 5;
const GROWING = { least: 200, most: 2000 };
const DOUBT = 5000;

export interface LookOptions {
  readonly tree: Pick<Tree, 'drop' | 'walk' | 'id' | 'has' | 'put' | 'files'>;
  readonly bytes: Bytes;
  readonly links: Links;
}

export function createLook({ tree, bytes, links }: LookOptions): (file: string, save: Save) => Promise<Look> {
  async function look(file: string, save: Save): Promise<Look> {
    const entry = await lstat(file).catch(() => undefined);
    if (entry?.isDirectory()) return becameFolder(file, entry);
    tree.drop(file);
    if (entry?.isSymbolicLink()) return becameLink(file, save);
    links.delete(file);
    return entry?.isFile() ? becameFile(file, save) : isGone(file, save);
  }

  async function becameFolder(dir: string, stats: Stats): Promise<Look> {
    const changes = tree.has(dir) ? unlinked(dir) : [];
    links.delete(dir);
    if (tree.id(dir) === idOf(stats)) return changes;
    tree.drop(dir);
    await tree.walk([dir], true);
    return changes;
  }

  async function becameLink(link: string, save: Save): Promise<Look> {
    const before = links.target(link);
    const was = throughLink(link, before); // what no link leads to any more is forgotten
    await links.put(link);
    const target = await stat(link).catch(() => undefined);
    if (target?.isFile()) return becameFile(link, save);
    if (!target?.isDirectory()) return isGone(link, save);
    const existed = tree.has(link);
    tree.put(link, true);
    const now = links.target(link);
    if (existed && before === now) return [];
    const files = new Set([...was, ...throughLink(link, now)]);
    return [changed(link, existed), ...[...files].map((file) => changed(file, true))];
  }

  /** Every file that has other bytes when the link to its folder leads elsewhere. */
  function throughLink(link: string, target: string | undefined): string[] {
    return target === undefined
      ? []
      : Array.from(tree.files(target), (file) => link + file.slice(target.length));
  }

  async function becameFile(file: string, save: Save): Promise<Look> {
    const existed = tree.has(file);
    const begun = performance.now();
    const compared = await bytes.compare(file, (size) => isTimeUp(save, size, begun));
    if (typeof compared === 'number') return patience(save, compared, performance.now());
    tree.put(file, true);
    if (compared === 'same' && existed) return [];
    const told = links.withAliases({ ...changed(file, existed), after: bytes.digestOf(file) });
    for (const alias of told) if (alias.file !== file) bytes.forget(alias.file); // what is known of it is not so any more
    return told;
  }

  function isGone(file: string, save: Save): Look {
    if (!tree.has(file)) return [];
    const age = performance.now() - save.first;
    return age < GONE ? GONE - age : unlinked(file);
  }

  function unlinked(file: string): readonly Found[] {
    const before = bytes.digestOf(file);
    tree.put(file, false);
    bytes.forget(file);
    return links.withAliases({ type: 'unlink', file, before });
  }

  return look;
}

/**
 * Did the file stay at this size for long enough, or is it in doubt for too long? `now` is from before the look and
 * `since` from after one: on a busy machine a look takes its time.
 */
function isTimeUp({ first, part }: Save, size: number, now: number): boolean {
  return (part?.size === size && now - part.since >= part.patience) || now - first >= DOUBT;
}

/** How long (ms) the part is left alone before the next look. Whoever writes slowly is given time. */
function patience(save: Save, size: number, now: number): number {
  const { part } = save;
  if (part?.size === size) return Math.max(1, part.since + part.patience - now);
  const pauses = part?.size ? Math.max(part.patience, PAUSES * (now - part.since)) : 0;
  const patience = size === 0 ? EMPTY : Math.min(Math.max(GROWING.least, pauses), GROWING.most);
  save.part = { size, since: now, patience };
  return patience;
}

function changed(file: string, existed: boolean): Found {
  return { type: existed ? 'change' : 'add', file };
}
