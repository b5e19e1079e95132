// Whatever a build tool throws → the Failure that pages show. Pure: nothing is read from the disk. A page may be read
// by anybody on the network, so what goes there names no absolute path: files are named from the working folder.

import { homedir } from 'node:os';
import { basename, isAbsolute, parse, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import type { Failure } from './events.ts';

type Place = Pick<Failure, 'file' | 'line' | 'column'>;

/**
 * An error as its tool throws it (esbuild, Rollup, Rolldown, Vite, PostCSS, Sass, Svelte, a plain `Error`, a text), as
 * what the overlay shows. `message` is one line, further lines of it come first in `frame`. Of several errors the first
 * is told in full, the others as one line each in `output`.
 *
 * @param cwd absolute path of the folder that files are named from
 */
export function toFailure(error: unknown, cwd: string = process.cwd()): Failure {
  const errors = get(error, 'errors');
  const [first, ...others] = Array.isArray(errors) && errors.length > 0 ? errors : [error];
  const frames = framesOf(first);
  const told = placeOf(first, cwd);
  const place = told.file === undefined && told.line === undefined ? placeInStack(frames, cwd) : told;
  const output =
    others.length > 0 ? others.map((other) => lineOf(other, cwd)).join('\n') : text(first, 'output');
  const [message = '', ...more] = messageOf(first, cwd).split('\n');
  const parts = {
    frame: join(more.join('\n'), plain(frameOf(first), cwd)),
    stack: plain(frames.join('\n'), cwd),
    output: output && withoutFolders(output, cwd),
    command: text(first, 'command'),
  };
  return { message, ...known(place), ...known(parts) };
}

/** The further lines of a message, and the frame if it is not among them, as Babel's is. */
function join(more: string, frame = ''): string {
  const details = more.replace(/^\s*\n|\s+$/g, '');
  if (!details || !frame) return details || frame;
  return details.includes(frame) ? details : `${details}\n\n${frame}`;
}

/** A text in which the working folder and the user's home are not told: `src/a.ts`, `~/lib/b.ts`. */
export function withoutFolders(value: string, cwd: string): string {
  return replaceFolder(replaceFolder(value, cwd, '', '.'), homedir(), '~/', '~');
}

function replaceFolder(value: string, folder: string, prefix: string, itself: string): string {
  if (folder === parse(folder).root) return value;
  // With either separator, as tools write it, and as a URL. Before it: no longer path that ends alike (but the last
  // letter of a colour, `\x1b[31m/site`, may be there). After it: no longer name.
  const name = folder
    .split(/[\\/]/)
    .map((segment) => segment.replace(/[^\w]/g, '\\$&'))
    .join('[\\\\/]');
  const pattern = `(?<=^|\\x1b\\[[\\d;]*m|[^\\w.~/\\\\-])(?:file:///?(?=[\\w/]))?${name}(?:([\\\\/])|(?![\\w.-]))`;
  // Tools write the letter of a drive as they like.
  const flags = /^[a-z]:/i.test(folder) ? 'gim' : 'gm';
  return value.replace(new RegExp(pattern, flags), (_, slash) => (slash ? prefix : itself));
}

function messageOf(error: unknown, cwd: string): string {
  const told =
    typeof error === 'string'
      ? error
      : // esbuild · Sass · PostCSS · everybody; the first three keep the place out of it
        (text(error, 'text') ??
        text(error, 'sassMessage') ??
        text(error, 'reason') ??
        text(error, 'message'));
  const message = plain(told ?? text(error, 'name'), cwd) ?? 'Unknown error';
  // Rollup begins with the place, `src/main.js (3:7): `, which is told apart from the message.
  return message.replace(/^\S+ \(\d+:\d+\): (?=.)/, '').trim();
}

function placeOf(error: unknown, cwd: string): Place {
  const { file, line, column } = rawPlace(error);
  const name = file ?? text(error, 'id') ?? text(error, 'file') ?? text(error, 'filename');
  return { file: name === undefined ? undefined : toRelative(name, cwd), line, column };
}

function rawPlace(error: unknown): Place {
  const span = get(error, 'span');
  if (span) {
    // Sass counts both from 0.
    const start = get(span, 'start');
    const url = get(span, 'url');
    return {
      file: url ? String(url) : undefined,
      line: count(start, 'line', 1),
      column: count(start, 'column', 1),
    };
  }
  const location = get(error, 'location');
  if (location) {
    return { file: text(location, 'file'), line: count(location, 'line'), column: columnOf(location) };
  }
  // Rollup, Rolldown, Vite, Babel · Svelte: columns count from 0.
  const found = get(error, 'loc') ?? get(error, 'start');
  if (found) {
    return { file: text(found, 'file'), line: count(found, 'line'), column: count(found, 'column', 1) };
  }
  // PostCSS, and a Failure itself.
  return { line: count(error, 'line'), column: count(error, 'column') };
}

/** esbuild counts columns in bytes, from 0; a plugin's error may come without the line. */
function columnOf(location: unknown): number | undefined {
  const column = count(location, 'column');
  const code = text(location, 'lineText');
  if (column === undefined) return undefined;
  return (code === undefined ? column : Buffer.from(code).subarray(0, column).toString().length) + 1;
}

/** The frames of a stack that are not the inside of Node or of a package. */
function framesOf(error: unknown): string[] {
  const frames = (text(error, 'stack') ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  const own = frames.filter((line) => !/node:|[\\/]node_modules[\\/]|<anonymous>/.test(line));
  return own.map((line) => line.trim());
}

function placeInStack(frames: readonly string[], cwd: string): Place {
  const [, file, line, column] = /(?:\(|at (?:async )?)([^()]+):(\d+):(\d+)\)?$/.exec(frames[0] ?? '') ?? [];
  if (file === undefined) return {};
  return { file: toRelative(file, cwd), line: Number(line), column: Number(column) };
}

function frameOf(error: unknown): string | undefined {
  const frame = text(error, 'frame');
  if (frame !== undefined) return frame;
  const { line, column } = rawPlace(error);
  const code = text(get(error, 'location'), 'lineText') ?? text(get(error, 'span'), 'context');
  if (line !== undefined && code !== undefined) return pointAt(code, line, column);
  const show = get(error, 'showSourceCode'); // PostCSS; the argument is for colours
  return typeof show === 'function' ? String(show.call(error, false)) : undefined;
}

function pointAt(code: string, line: number, column = 1): string {
  const [first = ''] = code.split('\n');
  const number = `> ${line} | `;
  const margin = `${' '.repeat(number.length - 2)}| `;
  // Tabs are repeated, so that the mark stands below its letter whatever they are wide.
  return `${number}${first}\n${margin}${first.slice(0, column - 1).replace(/[^\t]/g, ' ')}^`;
}

function lineOf(error: unknown, cwd: string): string {
  const { file, line, column } = placeOf(error, cwd);
  const place = [file, line, column].filter((part) => part !== undefined).join(':');
  const [message = ''] = messageOf(error, cwd).split('\n');
  return place ? `${place}: ${message}` : message;
}

function toRelative(file: string, cwd: string): string {
  // `\0` before and `?vue&type=style` after a name are marks of bundlers' virtual modules.
  const path = toPath(file.replace(/^\0/, '').replace(/\?.*$/s, ''));
  if (!isAbsolute(path)) return path.replaceAll('\\', '/');
  const name = relative(cwd, path);
  // On Windows a file of another drive has no relative path.
  return isAbsolute(name) ? basename(path) : name.replaceAll('\\', '/');
}

function toPath(file: string): string {
  if (!URL.canParse(file)) return file;
  const url = new URL(file);
  if (/^https?:$/.test(url.protocol)) return url.pathname.slice(1);
  try {
    return url.protocol === 'file:' ? fileURLToPath(url) : file;
  } catch {
    return url.pathname.slice(1); // a file URL of another host, or with an encoded slash
  }
}

function plain(value: string | undefined, cwd: string): string | undefined {
  return value ? withoutFolders(stripVTControlCharacters(value), cwd).trimEnd() : undefined;
}

function get(value: unknown, key: string): unknown {
  const holds = (typeof value === 'object' && value !== null) || typeof value === 'function';
  return holds ? Reflect.get(value, key) : undefined;
}

function text(value: unknown, key: string): string | undefined {
  const found = get(value, key);
  return typeof found === 'string' && found !== '' ? found : undefined;
}

function count(value: unknown, key: string, from = 0): number | undefined {
  const found = get(value, key);
  return Number.isSafeInteger(found) ? Number(found) + from : undefined;
}

/** Without the keys that have no value, so that a Failure equals what is read back from its JSON. */
function known<T extends object>(parts: T): Partial<T> {
  const rest: Partial<T> = { ...parts };
  for (const key in rest) if (rest[key] === undefined || rest[key] === '') delete rest[key];
  return rest;
}
