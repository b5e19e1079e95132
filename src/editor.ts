// A place that a failure names → the developer's editor. A request asks for it, so nothing else can be opened: only what
// the failure that pages are shown now says, and only a file of the project.

import { realpath, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Failure } from './events.ts';
import { isWithin } from './links.ts';

/** What is to be opened. Lines and columns count from 1. */
export interface Place {
  readonly file: string;
  readonly line: number | undefined;
  readonly column: number | undefined;
}

/** Milliseconds in which an editor that cannot start says so, as a rule. */
const PATIENCE = 500;

/** What a page sends: `["src/a.js", 3, 7]`. @throws {RangeError} if it is something else */
export function placeOf(data: unknown): Place {
  const [file, line, column]: unknown[] = Array.isArray(data) ? data : [];
  if (typeof file !== 'string' || file === '') throw new RangeError('Say what to open as ["src/a.js", 3, 7]');
  return { file, line: toCount(line), column: toCount(column) };
}

function toCount(value: unknown): number | undefined {
  const count = Number(value);
  return Number.isSafeInteger(count) && count > 0 ? count : undefined;
}

/** Whether a failure names this file: as its place, or anywhere in what it tells, as a whole word. */
export function names({ file, ...told }: Failure, name: string): boolean {
  const { message, frame = '', stack = '', output = '' } = told;
  const words = stripVTControlCharacters([message, frame, stack, output].join('\n')).split(
    /[\s"'`(),:;<>|]+/,
  );
  return name === file || words.includes(name);
}

/**
 * Opens a file of these folders in the editor that runs, or that the environment names; gives whether it seems to have
 * started.
 * @param folders absolute; names are relative to one of them
 * @throws {RangeError} if there is no such file in them
 */
export async function openInEditor(place: Place, folders: readonly string[]): Promise<boolean> {
  const { file, line, column } = place;
  const path = await find(file, folders);
  if (path === undefined) throw new RangeError(`Cannot open "${file}": it is no file of this project`);
  return launch([path, line, line && column].filter((part) => part !== undefined).join(':'));
}

/** The file of that name in the first of the folders that has it; nothing that is outside of all. */
async function find(name: string, folders: readonly string[]): Promise<string | undefined> {
  if (isAbsolute(name) || /^([\\/]|[a-z]:)/i.test(name)) return undefined;
  const roots = await Promise.all(folders.map((folder) => realpath(folder).catch(() => folder)));
  for (const folder of folders) {
    const path = join(folder, name);
    const real = await realpath(path).catch(() => undefined); // not in this one
    if (real === undefined || !roots.some((root) => isWithin(root, real))) continue;
    if ((await stat(real)).isFile()) return path;
  }
  return undefined;
}

async function launch(place: string): Promise<boolean> {
  const { default: launchEditor } = await import('launch-editor');
  return new Promise((resolve) => {
    setTimeout(resolve, PATIENCE, true);
    launchEditor(place, () => resolve(false)); // it has printed why
  });
}
