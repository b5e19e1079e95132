// The disk → batches of settled changes. Folders are watched, never files: one watch a folder. What an event means is
// found out by looking at the disk, so that it may come late, twice or without a name, and still not mislead.
//
// Its parts: tree.ts (which folders), settle.ts (when to look, what is told together), look.ts (what an entry has become),
// bytes.ts (did any change?), links.ts (other names), survey.ts (what nobody was watching), ignore.ts (what never counts),
// mounts.ts (where the system is silent), git.ts (is a checkout under way?), hold.ts (how a folder is watched), poll.ts (and
// how where that cannot be).

import { readFileSync, realpathSync, statSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { createBytes, drained } from './bytes.ts';
import type { Found } from './events.ts';
import { findLock, isLocked } from './git.ts';
import { codeOf, createHolder } from './hold.ts';
import { createIgnore, loadGlobs, type Matcher } from './ignore.ts';
import { createLinks, isWithin } from './links.ts';
import { createLook } from './look.ts';
import { silentMount } from './mounts.ts';
import { createSettle } from './settle.ts';
import { fileClock, isSince, statOf, survey } from './survey.ts';
import { createTree, idOf } from './tree.ts';

export type { Matcher } from './ignore.ts';

export interface WatchOptions {
  /** Beside what never counts: hidden files, `node_modules`, editors' temporary files. */
  readonly ignore?: readonly Matcher[];
  /** Watches what symbolic links lead to outside of the folders, under the links' names. @default false */
  readonly followSymlinks?: boolean;
  /** Look every so many ms instead of being told by the system. @default false */
  readonly poll?: number | false;
  /** Gets one line for each thing the user should know of. */
  readonly onWarning?: (line: string) => void;
}

export interface Watcher {
  /** From then on a change is sure to be seen. */
  readonly ready: Promise<void>;
  /** Resolves when no save of the file is under way; to `false` if that was waited for in vain: 1 s, or 5 s if it grows. */
  settled(file: string): Promise<boolean>;
  /** Resolves when every change so far is told. */
  quiet(): Promise<void>;
  /** A page uses the file: its folder is watched first, and its bytes are known. */
  prefer(file: string): void;
  /** Resolves when no watch and no timer is left; nothing is told any more. */
  close(): Promise<void>;
}

/** How often the watched folders themselves are looked for: nothing tells of a parent that moved. */
const PATROL = 250;
/** All bytes of a tree up to this size are read at start; of a larger one those of pages only. */
const SMALL = { files: 2000, bytes: 32 * 1024 * 1024 };
/** Of the events that the kernel keeps for us (16,384 by default), so many in one batch make it likely that some were lost. */
const MANY_EVENTS = 8000;

interface Root {
  readonly path: string;
  readonly ignores: (file: string) => boolean;
  /** The folder to watch for it: itself, or the one it is a file of. */
  base: string;
  /** What tells that folder from another, once all in it is watched. */
  walked?: string;
}

/**
 * Watches folders (or single files) and tells of changes in batches, each after its last byte is on the disk.
 * `since` is the performance.now() of the batch's first event.
 * @throws {TypeError} an `ignore` that is none
 */
export function watch(
  dirs: readonly string[],
  onBatch: (changes: readonly Found[], since: number) => void,
  options: WatchOptions = {},
): Watcher {
  const { ignore = [], followSymlinks = false, poll = false, onWarning = () => {} } = options;
  const toRoot = (path: string): Root => ({ path, ignores: createIgnore(path, ignore), base: path });
  const own = dirs.map((dir) => resolve(dir));
  const roots = own.map(toRoot);
  let stamp = fileClock();
  let events = 0;
  let closed = false;
  let mistaken = false;
  let patrols: NodeJS.Timeout | undefined;
  const errands = new Set<Promise<void>>();
  const links = createLinks(own, {
    isOwn: (file) => counts(file, roots.slice(0, own.length)),
    follow: followSymlinks ? follow : undefined,
    forsake,
  });
  const preferred = new Set<string>();
  const unreadable = new Set<string>();
  const holder = createHolder({ poll, accepts, onWarning });
  const bytes = createBytes();
  const tree = createTree({ hold: holder.hold, accepts, touch, onRenewed, onLink, onError });
  const settle = createSettle(createLook({ tree, bytes, links }), tell, isBusy);

  function isBusy(): boolean {
    try {
      return own.some((path) => {
        const lock = findLock(path);
        return lock !== undefined && isLocked(lock);
      });
    } catch {
      return false; // unreadable: nothing can be told of it
    }
  }

  function accepts(file: string): boolean {
    return counts(file, roots);
  }

  function counts(file: string, among: readonly Root[]): boolean {
    return among.some((root) =>
      root.base === root.path ? isWithin(root.path, file) && !isIgnored(root, file) : file === root.path,
    );
  }

  function isIgnored(root: Root, file: string): boolean {
    try {
      return root.ignores(file);
    } catch (error) {
      if (!mistaken) onWarning(`A function to ignore files fails with "${String(error)}" for "${file}"`);
      mistaken = true;
      return false;
    }
  }

  function touch(file: string): void {
    events++;
    if (roots.some((root) => isWithin(file, root.path) && root.base === root.path)) {
      errand(patrol());
      return;
    }
    if (!accepts(file)) return;
    bytes.touched(file);
    settle.touch(file);
  }

  function tell(changes: readonly Found[], since: number): void {
    const from = stamp;
    stamp = Date.now() - 100; // early enough for any clock
    if (events > MANY_EVENTS) errand(tree.relist().then(() => catchUp(from)));
    events = 0;
    onBatch(changes, since);
  }

  /** Something that close() has to wait for. */
  function errand(work: Promise<unknown>): void {
    const done = work.then(() => void errands.delete(done));
    errands.add(done);
  }

  /** Remembers where the link leads to; gives whether that is a file. */
  async function onLink(link: string): Promise<boolean> {
    await links.put(link);
    const stats = await stat(link).catch(() => undefined);
    return stats?.isFile() ?? false;
  }

  /** The walk at start comes to it by itself. */
  function follow(path: string): void {
    roots.push(toRoot(path));
    if (patrols) errand(patrol());
  }

  function forsake(path: string): void {
    const i = roots.findIndex((root, i) => i >= own.length && root.path === path);
    const [root] = i < 0 ? [] : roots.splice(i, 1);
    if (root && !roots.some((other) => isWithin(other.base, root.base))) tree.drop(root.base);
  }

  // --- The watched folders themselves ---

  let rounds = Promise.resolve();
  let nextRound: Promise<void> | undefined;

  /** Resolves when each of them was looked for after this moment. */
  function patrol(): Promise<void> {
    nextRound ??= rounds = rounds.then(goRound, goRound);
    return nextRound;
  }

  async function goRound(): Promise<void> {
    nextRound = undefined;
    for (const root of roots) {
      if (closed) return;
      await inspect(root, true);
    }
  }

  function onRenewed(dir: string): void {
    errand(catchUp(stamp, tree.files(dir)));
  }

  async function inspect(root: Root, fresh: boolean): Promise<void> {
    const stats = await stat(root.path).catch(() => undefined);
    if (stats) root.base = stats.isDirectory() ? root.path : dirname(root.path);
    const base = root.base === root.path ? stats : await stat(root.base).catch(() => undefined);
    const id = base && idOf(base);
    if (closed || (id !== undefined && tree.id(root.base) === id && root.walked === id)) return;
    tree.drop(root.base);
    if (id === undefined || !base?.isDirectory()) return;
    root.walked = id;
    await tree.walk([root.base], fresh);
    if (fresh && root.base !== root.path) touch(root.path);
  }

  function onError(dir: string, error: unknown): void {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR' || unreadable.has(dir)) return; // gone while it was opened, or known
    unreadable.add(dir);
    onWarning(`Cannot watch "${dir}": ${code ?? String(error)}. Changes in it are not noticed`);
  }

  // --- Start ---

  async function begin(): Promise<void> {
    await setImmediate(); // whoever listens meanwhile is there first
    await globs;
    for (const root of roots) await inspect(root, false);
    holder.started();
    if (closed) return;
    patrols = setInterval(() => errand(patrol()), PATROL).unref();
  }

  /** Tells of files that were changed at `from` or later, when nothing was watching them. */
  async function catchUp(from: number, files = tree.files()): Promise<{ files: number; bytes: number }> {
    const sum = { files: 0, bytes: 0 };
    await survey(files, (file, stats) => {
      if (isSince(from, stats) && !bytes.isCurrent(file, stats)) touch(file);
      sum.files++;
      sum.bytes += stats.size;
    });
    return sum;
  }

  async function learn(): Promise<void> {
    const { files, bytes: size } = await catchUp(started);
    surveyed = true;
    if (files > SMALL.files || size > SMALL.bytes) return;
    const queue = tree.files()[Symbol.iterator]();
    const work = async () => {
      for (let next = queue.next(); !next.done && !closed; next = queue.next()) await learnFile(next.value);
    };
    await Promise.all([work(), work()]);
  }

  async function learnFile(file: string): Promise<void> {
    if (!settle.has(file)) await bytes.learn(file);
  }

  async function preferNow(asked: string): Promise<void> {
    await globs;
    const file = links.unaliased(asked);
    const dir = dirname(file);
    if (!accepts(file)) return;
    if (tree.id(dir) === undefined) {
      const real = await realpath(dir).catch(() => undefined);
      if (real === undefined || (await links.asWatched(real)) !== dir) return;
    }
    await tree.attach(dir);
    if (!surveyed) wasServed(file);
    await learnFile(file);
  }

  // The kernel tells of a change when it is made. On a busy disk a truncated file can be read 200 ms before.
  function isUnheard(file: string): boolean {
    if (!bytes.knows(file) || settle.has(file)) return false;
    const stats = statSync(file, { throwIfNoEntry: false });
    return !stats || !bytes.isCurrent(file, stats);
  }

  /** A page has got the file, maybe before anything was watching it. */
  function wasServed(file: string): void {
    const stats = statOf(file);
    if (!stats) tree.put(file, true); // so that its absence is news
    if (!stats || isSince(started, stats)) touch(file);
  }

  const started = stamp;
  let surveyed = false;
  if (poll === false) warnOfSilence(own, onWarning);
  const globs = loadGlobs(ignore);
  const ready = begin();
  const learned = ready.then(learn);
  let ended: Promise<void> | undefined;

  async function close(): Promise<void> {
    closed = true;
    clearInterval(patrols);
    await Promise.all([settle.close(), tree.close(), learned]);
    await Promise.all(errands);
    await drained(); // handles are closed by then
  }

  return {
    ready,
    async settled(asked) {
      await drained();
      const file = links.unaliased(asked);
      if (isUnheard(file)) touch(file);
      return settle.settled(file);
    },
    async quiet() {
      await drained();
      await patrol();
      await settle.idle();
    },
    prefer(file) {
      if (preferred.has(file) || closed) return;
      preferred.add(file);
      errand(preferNow(file));
    },
    close: () => {
      ended ??= close();
      return ended;
    },
  };
}

function warnOfSilence(roots: readonly string[], onWarning: (line: string) => void): void {
  let mounts = '';
  try {
    mounts = readFileSync('/proc/self/mounts', 'utf8');
  } catch {
    return; // no Linux: no such list
  }
  for (const path of roots) {
    const type = silentMount(mounts, realOf(path));
    if (type === undefined) continue;
    onWarning(
      `"${path}" is on a ${type} mount, which may not tell of changes made elsewhere. If saves go unnoticed: --poll`,
    );
    return;
  }
}

function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // not there yet
  }
}
