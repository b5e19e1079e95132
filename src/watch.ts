// The disk → batches of settled changes. Folders are watched, never files: one watch a folder. What an event means is
// found out by looking at the disk, so that it may come late, twice or without a name, and still not mislead.
//
// Its parts: tree.ts (which folders), settle.ts (when to look, what belongs together), bytes.ts (did anything change?),
// ignore.ts (what never counts), mounts.ts (where the system is silent). chokidar is imported here only.

import { lstatSync, mkdtempSync, readFileSync, rmdirSync, type Stats, watch as watchFolder } from 'node:fs';
import { lstat, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import chokidar, { type ChokidarOptions } from 'chokidar';
import { createBytes, drained } from './bytes.ts';
import type { Change } from './events.ts';
import { createIgnore, type Matcher } from './ignore.ts';
import { silentMount } from './mounts.ts';
import { createSettle, type Look, type Save } from './settle.ts';
import { createTree, type Hold, idOf } from './tree.ts';

export type { Matcher } from './ignore.ts';

export interface WatchOptions {
  /** Beside what never counts: hidden files, `node_modules`, editors' temporary files. */
  readonly ignore?: readonly Matcher[];
  /** Look every so many ms instead of being told by the system. @default false */
  readonly poll?: number | false;
  /** Gets one line for each thing the user should know of. */
  readonly onWarning?: (line: string) => void;
}

export interface Watcher {
  /** From then on a change is sure to be seen. */
  readonly ready: Promise<void>;
  /** Resolves when no save of the file is under way; at most a second later. */
  settled(file: string): Promise<void>;
  /** A page uses the file: its folder is watched first, and its bytes are known. */
  prefer(file: string): void;
  /** Resolves when no watch and no timer is left; nothing is told any more. */
  close(): Promise<void>;
}

/** How long (ms) a deleted file is waited for: many editors save by deleting. */
const GONE = 60;
/** How long an empty file is waited for: saving begins with emptying. */
const EMPTY = 500;
/** How long a file that is longer than a moment ago is left alone before the next look. */
const GROWING = 150;
/** How often the watched folders themselves are looked for: nothing tells of a parent that moved. */
const PATROL = 250;
/** What is polled because it cannot be watched is looked at this often. */
const FALLBACK_POLL = 500;
/** All bytes of a tree up to this size are read at start; of a larger one those of pages only. */
const SMALL = { files: 2000, bytes: 32 * 1024 * 1024 };
/** A folder with more entries, and all folders after so many, are held without chokidar: see `hold`. */
const CHOKIDAR = { entries: 200, folders: 50 };
/** Of the events that the kernel keeps for us (16,384 by default), so many in one batch make it likely that some were lost. */
const MANY_EVENTS = 8000;

interface Root {
  readonly path: string;
  readonly ignores: (file: string) => boolean;
  /** The folder to watch for it: itself, or the one it is a file of. */
  base: string;
}

/**
 * Watches folders (or single files) and tells of changes in batches, each after its last byte is on the disk.
 * `since` is the performance.now() of the batch's first event.
 * @throws {TypeError} an `ignore` that is none
 */
export function watch(
  dirs: readonly string[],
  onBatch: (changes: readonly Change[], since: number) => void,
  options: WatchOptions = {},
): Watcher {
  const { ignore = [], poll = false, onWarning = () => {} } = options;
  const roots = dirs.map((dir): Root => {
    const path = resolve(dir);
    return { path, ignores: createIgnore(path, ignore), base: path };
  });
  let stamp = fileClock();
  let events = 0;
  let closed = false;
  let mistaken = false;
  const timers = new Set<NodeJS.Timeout>();
  const links = new Map<string, string>();
  const preferred = new Set<string>();
  const holder = createHolder({ poll, accepts, onWarning });
  const bytes = createBytes();
  const settle = createSettle(look, tell);
  const tree = createTree({ hold: holder.hold, accepts, touch, onRenewed, onLink, onError });

  function accepts(file: string): boolean {
    return roots.some((root) =>
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
      void patrol();
      return;
    }
    if (!accepts(file)) return;
    bytes.touched(file);
    settle.touch(file);
  }

  function tell(changes: readonly Change[], since: number): void {
    const from = stamp;
    stamp = Date.now() - 100; // early enough for any clock
    if (events > MANY_EVENTS) void tree.relist().then(() => survey(from));
    events = 0;
    onBatch(changes, since);
  }

  // --- What an entry has become ---

  async function look(file: string, save: Save): Promise<Look> {
    const entry = await lstat(file).catch(() => undefined);
    if (closed) return [];
    if (entry?.isDirectory()) return becameFolder(file, entry);
    tree.drop(file);
    if (entry?.isSymbolicLink()) return becameLink(file, save);
    links.delete(file);
    return entry?.isFile() ? becameFile(file, entry, save) : isGone(file, save);
  }

  async function becameFolder(dir: string, stats: Stats): Promise<Look> {
    const changes = tree.has(dir) ? unlinked(dir) : [];
    links.delete(dir);
    if (tree.id(dir) === idOf(stats)) return changes;
    tree.drop(dir);
    await tree.walk([dir], true);
    return changes;
  }

  async function becameLink(file: string, save: Save): Promise<Look> {
    const before = links.get(file);
    await onLink(file);
    const target = await stat(file).catch(() => undefined);
    if (target?.isFile()) return becameFile(file, target, save);
    if (!target?.isDirectory()) return isGone(file, save);
    const now = links.get(file);
    const existed = tree.has(file);
    tree.put(file, true);
    if (existed && before === now) return [];
    return [changed(file, existed), ...throughLink(file, before, now)];
  }

  /** Every file that has another content since the link to its folder leads elsewhere. */
  function throughLink(link: string, before: string | undefined, now: string | undefined): Change[] {
    const files = new Set<string>();
    for (const target of [before, now]) {
      if (target === undefined) continue;
      for (const file of tree.files(target)) files.add(link + file.slice(target.length));
    }
    return [...files].map((file) => changed(file, true));
  }

  async function becameFile(file: string, stats: Stats, save: Save): Promise<Look> {
    const age = performance.now() - save.first;
    if (stats.size === 0 && age < EMPTY && !bytes.isEmpty(file)) return EMPTY - age;
    const existed = tree.has(file);
    const compared = await bytes.compare(file, save.size);
    if (typeof compared === 'number') {
      save.size = compared;
      return GROWING;
    }
    tree.put(file, true);
    if (holder.polls) lookAgain(file, stats);
    if (compared === 'same' && existed) return [];
    return withAliases(changed(file, existed));
  }

  async function isGone(file: string, save: Save): Promise<Look> {
    const age = performance.now() - save.first;
    if (tree.has(file) && age < GONE) return GONE - age;
    return tree.has(file) ? unlinked(file) : [];
  }

  function unlinked(file: string): readonly Change[] {
    tree.put(file, false);
    bytes.forget(file);
    return withAliases({ type: 'unlink', file });
  }

  // Whoever polls sees two writes within one tick of the clock as one, and is blind until the first round.
  function lookAgain(file: string, stats: Stats): void {
    if (Date.now() - stats.ctimeMs > 3000) return;
    const timer = setTimeout(() => {
      timers.delete(timer);
      touch(file);
    }, 1000);
    timers.add(timer);
  }

  // --- Symbolic links: what they lead to has two names. Targets outside of the watched folders are none of ours. ---

  /** Remembers where the link leads to; gives whether that is a file. */
  async function onLink(link: string): Promise<boolean> {
    const target = await realpath(link).catch(() => nextOf(link));
    const inside = target === undefined ? undefined : await asWatched(target);
    if (inside === undefined || inside === link) links.delete(link);
    else links.set(link, inside);
    const stats = await stat(link).catch(() => undefined);
    return stats?.isFile() ?? false;
  }

  async function asWatched(real: string): Promise<string | undefined> {
    for (const root of roots) {
      const base = await realpath(root.path).catch(() => root.path);
      if (isWithin(base, real)) return join(root.path, relative(base, real));
    }
    return undefined;
  }

  function withAliases(change: Change): readonly Change[] {
    const changes = [change];
    for (const [link, target] of links) {
      if (isWithin(target, change.file))
        changes.push({ ...change, file: link + change.file.slice(target.length) });
    }
    return changes;
  }

  function unaliased(file: string): string {
    for (const [link, target] of links) if (isWithin(link, file)) return target + file.slice(link.length);
    return file;
  }

  // --- The watched folders themselves ---

  let patrolling = false;
  let again = false;

  async function patrol(): Promise<void> {
    again = true;
    if (patrolling) return;
    patrolling = true;
    while (again && !closed) {
      again = false;
      for (const root of roots) await inspect(root, true);
    }
    patrolling = false;
  }

  function onRenewed(dir: string): void {
    void survey(stamp, tree.files(dir));
  }

  async function inspect(root: Root, fresh: boolean): Promise<void> {
    const stats = await stat(root.path).catch(() => undefined);
    if (stats) root.base = stats.isDirectory() ? root.path : dirname(root.path);
    const base = root.base === root.path ? stats : await stat(root.base).catch(() => undefined);
    if (closed || (base && tree.id(root.base) === idOf(base))) return;
    tree.drop(root.base);
    if (!base?.isDirectory()) return;
    await tree.walk([root.base], fresh);
    if (fresh && root.base !== root.path) touch(root.path);
  }

  function onError(dir: string, error: unknown): void {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return; // gone while it was opened
    onWarning(`Cannot watch "${dir}": ${code ?? String(error)}. Changes in it are not noticed`);
  }

  // --- Start ---

  async function begin(): Promise<void> {
    for (const root of roots) await inspect(root, false);
    holder.started();
    if (closed) return;
    const timer = setInterval(patrol, PATROL);
    timer.unref();
    timers.add(timer);
  }

  /** Tells of files that were changed at `from` or later, before anything was watching them. */
  async function survey(from: number, files = tree.files()): Promise<{ files: number; bytes: number }> {
    const sum = { files: 0, bytes: 0 };
    let begun = performance.now();
    for (const file of files) {
      if (closed) break;
      const stats = statOf(file);
      if (!stats) continue;
      if (isSince(from, stats) && !bytes.isCurrent(file, stats.ctimeMs)) touch(file);
      sum.files++;
      sum.bytes += stats.size;
      if (performance.now() - begun < 5) continue;
      await new Promise(setImmediate);
      begun = performance.now();
    }
    return sum;
  }

  async function learn(): Promise<void> {
    const { files, bytes: size } = await survey(started);
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
    const file = unaliased(asked);
    const dir = dirname(file);
    if (!accepts(file)) return;
    if (tree.id(dir) === undefined) {
      const real = await realpath(dir).catch(() => undefined);
      if (real === undefined || (await asWatched(real)) !== dir) return;
    }
    await tree.attach(dir);
    if (!surveyed) wasServed(file);
    await learnFile(file);
  }

  /** A page has got the file, maybe before anything was watching it. */
  function wasServed(file: string): void {
    const stats = statOf(file);
    if (!stats) tree.put(file, true); // so that its absence is news
    if (!stats || isSince(started, stats)) touch(file);
  }

  const started = stamp;
  let surveyed = false;
  if (poll === false) warnOfSilence(roots, onWarning);
  const ready = begin();
  const learned = ready.then(learn);
  let ended: Promise<void> | undefined;

  async function close(): Promise<void> {
    closed = true;
    settle.close();
    for (const timer of timers) clearTimeout(timer);
    await tree.close();
    await learned;
    await drained(); // handles are closed by then
  }

  return {
    ready,
    async settled(file) {
      await drained();
      await settle.settled(unaliased(file));
    },
    prefer(file) {
      if (preferred.has(file) || closed) return;
      preferred.add(file);
      void preferNow(file);
    },
    close: () => {
      ended ??= close();
      return ended;
    },
  };
}

function changed(file: string, existed: boolean): Change {
  return { type: existed ? 'change' : 'add', file };
}

function isWithin(dir: string, file: string): boolean {
  return file === dir || file.startsWith(dir.endsWith(sep) ? dir : dir + sep);
}

async function nextOf(link: string): Promise<string | undefined> {
  const target = await readlink(link).catch(() => undefined);
  return target === undefined ? undefined : resolve(dirname(link), target);
}

function statOf(file: string): Stats | undefined {
  try {
    return lstatSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined; // unreadable on the way: not served either
  }
}

// Some file systems keep whole or even seconds only.
function isSince(time: number, { ctimeMs }: Stats): boolean {
  return ctimeMs + (ctimeMs % 1000 === 0 ? 2000 : 0) >= time;
}

/**
 * The time (ms) that a file written now gets. The kernel's clock for files stands still between ticks: it can be 10 ms
 * behind Date.now(), and more on a busy machine. Too early is harmless: a file is looked at once more.
 */
function fileClock(): number {
  try {
    const dir = mkdtempSync(join(tmpdir(), 'live-sse-clock-'));
    const { ctimeMs } = lstatSync(dir);
    rmdirSync(dir);
    return ctimeMs;
  } catch {
    return Date.now() - 20; // nowhere to write
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

function warnOfSilence(roots: readonly Root[], onWarning: (line: string) => void): void {
  let mounts = '';
  try {
    mounts = readFileSync('/proc/self/mounts', 'utf8');
  } catch {
    return; // no Linux: no such list
  }
  for (const { path } of roots) {
    const type = silentMount(mounts, path);
    if (type === undefined) continue;
    onWarning(
      `"${path}" is on a ${type} mount, which may not tell of changes made elsewhere. If saves go unnoticed: --poll`,
    );
    return;
  }
}

// --- How a folder is held ---

interface Holder {
  hold(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold>;
  /** The first walk is over. */
  started(): void;
  /** Is anything polled? */
  readonly polls: boolean;
}

interface HolderOptions {
  readonly poll: number | false;
  accepts(file: string): boolean;
  onWarning(line: string): void;
}

// chokidar holds folders and does all polling. It lists a folder and stats each entry in it at every event, and it keeps
// one watcher a path for the whole process, dead or alive, so crowded folders, the many of a big tree and those that come
// back are held by node:fs directly: 15 µs instead of 2 ms each, with the same events.
function createHolder({ poll, accepts, onWarning }: HolderOptions): Holder {
  // CHOKIDAR_USEPOLLING and CHOKIDAR_INTERVAL have the last word, as in every tool with chokidar in it.
  const { usePolling, interval } = chokidar.watch([], {
    usePolling: poll !== false,
    interval: poll || 100,
  }).options;
  let polls = usePolling;
  let first = true;
  const chokidars = new Set<string>();

  async function hold(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold> {
    if (polls) return pollFolder(dir, onEvent);
    try {
      return (await suitsChokidar(dir)) ? await chokidarFolder(dir, onEvent) : nodeFolder(dir, onEvent);
    } catch (error) {
      const code = codeOf(error);
      if (code !== 'ENOSPC' && code !== 'EMFILE') throw error;
      if (!polls) onWarning(limitReached(code));
      polls = true;
      return pollFolder(dir, onEvent);
    }
  }

  async function suitsChokidar(dir: string): Promise<boolean> {
    if (!first || chokidars.size >= CHOKIDAR.folders || chokidars.has(dir)) return false;
    // chokidar takes a backslash for a slash.
    if (sep === '/' && dir.includes('\\')) return false;
    chokidars.add(dir);
    return (await readdir(dir)).length <= CHOKIDAR.entries;
  }

  function chokidarFolder(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold> {
    const self = dir.replaceAll('\\', '/');
    return viaChokidar(dir, (name) => onEvent(name ?? undefined), { ignored: (file) => file !== self });
  }

  async function pollFolder(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold> {
    const real = await realpath(dir);
    const self = real.replaceAll('\\', '/');
    const onRaw = (file: string) => onEvent(file === real ? undefined : basename(file));
    return viaChokidar(real, onRaw, {
      usePolling: true,
      interval: usePolling ? interval : FALLBACK_POLL,
      binaryInterval: usePolling ? interval : FALLBACK_POLL,
      followSymlinks: false,
      ignored: (file) => file !== self && !accepts(join(dir, basename(file))),
    });
  }

  return {
    hold,
    started: () => {
      first = false;
    },
    get polls() {
      return polls;
    },
  };
}

function nodeFolder(dir: string, onEvent: (name: string | undefined) => void): Hold {
  const watcher = watchFolder(dir, (_, name) => onEvent(name ?? undefined));
  watcher.on('error', () => onEvent(undefined)); // on Windows: the folder was deleted
  return watcher;
}

function viaChokidar(dir: string, onRaw: (name: string) => void, options: ChokidarOptions): Promise<Hold> {
  const watcher = chokidar.watch(dir, { ...options, depth: 0, ignoreInitial: true, atomic: false });
  let failure: unknown;
  let lastEvent = -Infinity;
  watcher.on('error', (error) => {
    failure ??= error;
  });
  watcher.on('raw', (_, name) => {
    lastEvent = performance.now();
    onRaw(name);
  });
  // Closed while it lists a folder, chokidar leaves a timer of a second behind.
  const close = async () => {
    const ms = 50 - (performance.now() - lastEvent);
    if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
    await watcher.close();
  };
  return new Promise((resolve, reject) => {
    watcher.once('ready', () => {
      if (failure === undefined) return resolve({ close });
      void watcher.close();
      reject(failure);
    });
  });
}

function limitReached(code: string): string {
  if (process.platform !== 'linux')
    return `Too many files are open (${code}); the rest is polled. Raise the limit: ulimit -n 65536`;
  const [name, value] =
    code === 'ENOSPC' ? ['fs.inotify.max_user_watches', 524288] : ['fs.inotify.max_user_instances', 1024];
  return `The system's limit of watches is reached (${code}); the rest is polled. Raise it: sudo sysctl ${name}=${value}`;
}
