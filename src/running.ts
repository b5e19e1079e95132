// Which servers run on this machine: each that the command line starts leaves a note, for this user alone, until it ends.

import { randomBytes } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { isWithin } from './links.ts';

/** A server that runs. */
export interface Note {
  readonly pid: number;
  readonly url: string;
  /** The folders it serves by their URL path, `''` for its root; absolute. */
  readonly folders: Readonly<Record<string, string>>;
}

/** Milliseconds until an address that says nothing is given up. */
const PATIENCE = 1000;

/** Leaves a note of a server; gives what removes it. @throws if the system does not let it */
export function leaveNote(note: Note, folder = notesFolder()): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (!isOurs(folder)) throw new Error(`"${folder}" belongs to another user`);
  // Who had this address before has ended, and could not say so.
  for (const other of readNotes(folder)) if (other.note.url === note.url) rmSync(other.file, { force: true });
  const file = join(folder, `${note.pid}-${randomBytes(4).toString('hex')}.json`);
  writeFileSync(`${file}.part`, JSON.stringify(note), { mode: 0o600, flag: 'wx' });
  renameSync(`${file}.part`, file);
  return () => rmSync(file, { force: true });
}

/** The servers that run. Notes of those that could not remove theirs go away. */
export async function runningServers(folder = notesFolder()): Promise<readonly Note[]> {
  const notes = readNotes(folder).map(async ({ file, note }) => {
    const open = isAlive(note.pid) && (await isOpen(new URL(note.url)));
    if (open === false) rmSync(file, { force: true });
    return open ? [note] : [];
  });
  return (await Promise.all(notes)).flat();
}

/**
 * The servers a folder may mean: the one whose root holds it, the nearest of several; otherwise all whose root is inside
 * of it.
 */
export function serversFor<T extends Pick<Note, 'folders'>>(
  servers: readonly T[],
  folder: string,
): readonly T[] {
  const here = real(folder);
  const rooted = servers.map((server) => ({ server, root: real(server.folders[''] ?? '') }));
  const around = rooted.filter(({ root }) => isWithin(root, here));
  const nearest = Math.max(...around.map(({ root }) => root.length));
  const found =
    around.length > 0
      ? around.filter(({ root }) => root.length === nearest)
      : rooted.filter(({ root }) => isWithin(here, root));
  return found.map(({ server }) => server);
}

/** Where a user's running programs keep what ends with them. */
function notesFolder(env: NodeJS.ProcessEnv = process.env): string {
  const runtime = env.XDG_RUNTIME_DIR ?? '';
  if (isAbsolute(runtime)) return join(runtime, 'live-sse');
  const { uid } = userInfo();
  return join(tmpdir(), uid < 0 ? 'live-sse' : `live-sse-${uid}`); // on Windows, the folder is the user's own
}

/** In a folder for everybody, another user may have made one of that name. */
function isOurs(folder: string): boolean {
  const stats = lstatSync(folder, { throwIfNoEntry: false });
  if (!stats?.isDirectory()) return false;
  return process.getuid === undefined || (stats.uid === process.getuid() && (stats.mode & 0o077) === 0);
}

function readNotes(folder: string): readonly { readonly file: string; readonly note: Note }[] {
  if (!isOurs(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
  return names.flatMap((name) => {
    const file = join(folder, name);
    try {
      const note: unknown = JSON.parse(readFileSync(file, 'utf8'));
      return isNote(note) ? [{ file, note }] : [];
    } catch {
      return []; // its server has ended in this moment
    }
  });
}

function isNote(value: unknown): value is Note {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, url, folders } = value as Record<string, unknown>;
  return (
    Number.isInteger(pid) &&
    typeof url === 'string' &&
    URL.canParse(url) &&
    typeof folders === 'object' &&
    folders !== null
  );
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'; // of another user: another program by now, but who knows
  }
}

/** Whether anything listens there: the number of a process may be another's by now. `undefined`: it says nothing. */
function isOpen({ hostname, port, protocol }: URL): Promise<boolean | undefined> {
  const address = {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port) || (protocol === 'https:' ? 443 : 80),
  };
  return new Promise((resolve) => {
    const socket = connect(address, () => resolve(true));
    // An address of a network that is left answers nothing.
    socket.setTimeout(PATIENCE, () => {
      resolve(undefined);
      socket.destroy();
    });
    socket.on('error', () => {}); // told by `close`
    socket.on('connect', () => socket.destroy());
    socket.on('close', () => resolve(false));
  });
}

function real(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder; // it is gone
  }
}
