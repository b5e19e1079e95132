// The folders that are watched and the names in them. It lists folders and tells which entries to look at; what those
// have become is not its business.

import type { Dirent, Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** A watch on one folder. */
export interface Hold {
  close(): void | Promise<void>;
}

export interface TreeOptions {
  /** Watches a folder; resolves when the watch is in place. `onEvent` gets the entry's name, if it is known. */
  hold(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold>;
  /** Does the entry count? */
  accepts(file: string): boolean;
  /** The entry may have appeared, changed or gone. */
  touch(file: string): void;
  /** A folder was watched and listed anew, because something happened to itself: its files may be others now. */
  onRenewed(dir: string): void;
  /** A symbolic link was listed; does it lead to a file? */
  onLink(file: string): Promise<boolean>;
  /** A folder cannot be watched or listed. */
  onError(dir: string, error: unknown): void;
}

export interface Tree {
  /** Watches and lists folders and all below. `fresh`: they are new, so whatever is in them is news. */
  walk(dirs: readonly string[], fresh: boolean): Promise<void>;
  /** Watches and lists one folder ahead of the walk that will come to it, and that knows whether it is new. */
  attach(dir: string): Promise<void>;
  /** Lists every folder again. */
  relist(): Promise<void>;
  /** Ends the watches on a folder and all below; each file in them is touched. */
  drop(dir: string): void;
  /** The inode of a folder that was walked. */
  id(dir: string): string | undefined;
  /** Was there a file when it was last looked at? */
  has(file: string): boolean;
  put(file: string, exists: boolean): void;
  /** All files that are known below a folder. */
  files(below?: string): Iterable<string>;
  close(): Promise<void>;
}

interface Folder {
  readonly path: string;
  readonly fresh: boolean;
  /** No walk has come to it yet. */
  ahead: boolean;
  readonly files: Set<string>;
  readonly folders: Set<string>;
  id?: string;
  listed: boolean;
  renewing: boolean;
  hold?: Hold;
  opened: Promise<void>;
}

/** Folders that are opened at the same time: libuv has four threads, and requests want some of them. */
const AT_ONCE = 4;
/** Entries of one folder handled in a row, before others have their turn. */
const IN_A_ROW = 1000;

export function createTree({ hold, accepts, touch, onRenewed, onLink, onError }: TreeOptions): Tree {
  const folders = new Map<string, Folder>();
  // Files of folders that are gone: known until they are looked at.
  const orphans = new Set<string>();
  const closing = new Set<Promise<void>>();
  let closed = false;

  async function walk(dirs: readonly string[], fresh: boolean): Promise<void> {
    for (let level = [...dirs]; level.length > 0 && !closed; ) {
      const next: string[] = [];
      const queue = level.values();
      const work = async () => {
        for (const dir of queue) {
          const folder = await open(dir, fresh, false);
          if (!folder) continue;
          folders.get(dirname(dir))?.folders.add(basename(dir));
          for (const name of folder.folders) next.push(join(dir, name));
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      level = next;
    }
  }

  async function open(dir: string, fresh: boolean, ahead: boolean): Promise<Folder | undefined> {
    if (closed) return undefined;
    const known = folders.get(dir);
    // What is in it was taken for old.
    if (known?.ahead && fresh) drop(dir);
    else if (known) {
      known.ahead &&= ahead;
      await known.opened;
      return folders.get(dir);
    }
    const folder: Folder = {
      path: dir,
      fresh,
      ahead,
      files: new Set(),
      folders: new Set(),
      listed: false,
      renewing: false,
      opened: Promise.resolve(),
    };
    folders.set(dir, folder);
    folder.opened = begin(folder);
    await folder.opened;
    return isCurrent(folder) ? folder : undefined;
  }

  // First the watch, then the list: what happens in between is seen twice, never not at all.
  async function begin(folder: Folder): Promise<void> {
    try {
      const stats = await stat(folder.path);
      folder.id = idOf(stats);
      const held = await hold(folder.path, (name) => onEvent(folder, name));
      if (!isCurrent(folder)) return end(held);
      folder.hold = held;
      await list(folder);
    } catch (error) {
      if (!isCurrent(folder)) return;
      drop(folder.path);
      onError(folder.path, error);
    }
  }

  async function list(folder: Folder): Promise<void> {
    const entries = await readdir(folder.path, { withFileTypes: true });
    const names = new Set<string>();
    let n = 0;
    for (const entry of entries) {
      if (!isCurrent(folder)) return;
      if (!accepts(join(folder.path, entry.name))) continue;
      names.add(entry.name);
      await enlist(folder, entry);
      if (++n % IN_A_ROW === 0) await new Promise(setImmediate);
    }
    folder.listed = true;
    for (const name of [...folder.files, ...folder.folders]) {
      if (!names.has(name)) touch(join(folder.path, name));
    }
  }

  async function enlist(folder: Folder, entry: Dirent): Promise<void> {
    const file = join(folder.path, entry.name);
    const news = folder.fresh || folder.listed;
    if (entry.isDirectory()) {
      if (folder.listed && !folder.folders.has(entry.name)) touch(file);
      else folder.folders.add(entry.name);
      return;
    }
    const isFile = entry.isSymbolicLink() ? await onLink(file) : entry.isFile();
    if (!isFile) return;
    if (!news) folder.files.add(entry.name);
    else if (!folder.files.has(entry.name)) touch(file);
  }

  function onEvent(folder: Folder, name: string | undefined): void {
    if (!isCurrent(folder)) return;
    if (name === undefined) {
      void relistOne(folder);
      return;
    }
    touch(join(folder.path, name));
    // An event of the folder itself, if no entry happens to be called like it.
    if (name === basename(folder.path)) void renew(folder);
  }

  // The watch may be on what was moved away, and another folder with its number in its place.
  async function renew(folder: Folder): Promise<void> {
    await folder.opened;
    if (!isCurrent(folder) || folder.renewing) return;
    folder.renewing = true;
    try {
      const before = folder.hold;
      // Of another folder all below is another, too: the look at it begins anew.
      if (folder.id !== idOf(await stat(folder.path))) return touch(folder.path);
      const held = await hold(folder.path, (name) => onEvent(folder, name));
      if (!isCurrent(folder)) return end(held);
      folder.hold = held;
      if (before) end(before);
      await list(folder);
      onRenewed(folder.path);
    } catch {
      if (isCurrent(folder)) drop(folder.path);
      touch(folder.path);
    } finally {
      folder.renewing = false;
    }
  }

  async function relistOne(folder: Folder): Promise<void> {
    await folder.opened;
    // A folder that cannot be listed any more is gone; whoever holds its parent is told so.
    if (isCurrent(folder)) await list(folder).catch(() => touch(folder.path));
  }

  function drop(dir: string): void {
    const folder = folders.get(dir);
    if (!folder) return;
    folders.delete(dir);
    folders.get(dirname(dir))?.folders.delete(basename(dir));
    if (folder.hold) end(folder.hold);
    for (const name of folder.files) {
      orphans.add(join(dir, name));
      touch(join(dir, name));
    }
    for (const name of folder.folders) drop(join(dir, name));
  }

  function end(held: Hold): void {
    const ended = Promise.resolve(held.close()).then(() => void closing.delete(ended));
    closing.add(ended);
  }

  function isCurrent(folder: Folder): boolean {
    return !closed && folders.get(folder.path) === folder;
  }

  function has(file: string): boolean {
    const folder = folders.get(dirname(file));
    // In a folder that is being listed for the first time, what has an event was most likely there before.
    return (
      folder?.files.has(basename(file)) || orphans.has(file) || (folder?.listed === false && !folder.fresh)
    );
  }

  function put(file: string, exists: boolean): void {
    orphans.delete(file);
    const names = folders.get(dirname(file))?.files;
    if (exists) names?.add(basename(file));
    else names?.delete(basename(file));
  }

  function* files(below?: string): Iterable<string> {
    if (below === undefined) {
      for (const dir of folders.keys()) yield* inFolder(dir);
      return;
    }
    yield* inFolder(below);
    for (const name of folders.get(below)?.folders ?? []) yield* files(join(below, name));
  }

  function* inFolder(dir: string): Iterable<string> {
    for (const name of folders.get(dir)?.files ?? []) yield join(dir, name);
  }

  return {
    walk,
    attach: async (dir) => void (await open(dir, false, true)),
    async relist() {
      for (const folder of [...folders.values()]) await relistOne(folder);
    },
    drop,
    id(dir) {
      const folder = folders.get(dir);
      return folder?.ahead ? undefined : folder?.id;
    },
    has,
    put,
    files,
    async close() {
      closed = true;
      const opening = [...folders.values()].map((folder) => folder.opened);
      for (const folder of folders.values()) if (folder.hold) end(folder.hold);
      folders.clear();
      await Promise.all(opening);
      await Promise.all(closing);
    },
  };
}

/** What tells one folder from another that took its place. */
export function idOf({ dev, ino, birthtimeMs }: Stats): string {
  return `${dev}:${ino}:${birthtimeMs}`; // the number of a deleted inode is given away again at once
}
