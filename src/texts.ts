// Saved stylesheets and pages → their texts, for the event that tells of them: what is small is shown with no fetch in between.
// Only what a GET of the same path would give, as it is on the disk, and no sheet that means something else inside of a page.

import { isUtf8 } from 'node:buffer';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Texts } from './events.ts';
import { createResolver, type FoundFile, parseTarget, type ResolverOptions } from './resolve.ts';

/** Files at once, and the bytes of them together: with more, a fetch is no worse. */
const MOST = { files: 8, bytes: 32 * 1024 };
/** Bytes that are written to all readers together: with more of them, each fetches when it can. */
const MOST_WRITTEN = 4 * 1024 * 1024;
/** Turns of the event loop after which a save that is under way has shown. */
const TURNS = 4;

const KIND = /\.(?:css|html?)$/i;
// What has an address in it, which counts from where the text is, or says how it is to be read. An escaped letter may be one
// of such a word.
const TELLING = /url\(|src\(|image\(|image-set\(|@import|@namespace|@charset(?! "utf-8";)|\\[\da-z]/i;

const SHEET_END = /(?:[};]|\*\/)\s*$/;
const PAGE_END = /<\/(?:html|body)>\s*$/i;

/**
 * Reads the texts of files by their URL paths, for so many readers; `undefined` where a fetch has to do: one of them is
 * large, blank, cannot stand in a page as it is, or is in the middle of the next save, which shows a moment later.
 */
export type ReadTexts = (paths: readonly string[], readers: number) => Promise<Texts | undefined> | undefined;

/** @param settled resolves to true at once when no save of the file is under way */
export function createTexts(
  root: string,
  options: Omit<ResolverOptions, 'onNotice'>,
  settled: (file: string) => Promise<boolean>,
): ReadTexts {
  const resolver = createResolver(root, options);

  function find(path: string): FoundFile | undefined {
    const target = parseTarget(path);
    const found = target && resolver.find(target);
    return found?.type === 'file' && found.path === path ? found : undefined;
  }

  return (paths = [], readers) => {
    if (
      readers === 0 ||
      paths.length === 0 ||
      paths.length > MOST.files ||
      !paths.every((path) => KIND.test(path))
    )
      return undefined;
    const texts: Record<string, string> = {};
    const files: string[] = [];
    let left = Math.min(MOST.bytes, Math.floor(MOST_WRITTEN / readers));
    for (const path of paths) {
      const found = find(path);
      const body = found && read(found, left);
      const text = body && textOf(body, found.file);
      if (!text) return undefined;
      left -= body.length;
      files.push(found.file);
      texts[path] = text;
    }
    // Asked after the reading: half a save is not to be seen.
    return Promise.all(files.map((file) => isAtRest(settled(file)))).then((rest) =>
      rest.every(Boolean) ? texts : undefined,
    );
  };
}

async function isAtRest(settled: Promise<boolean>): Promise<boolean> {
  return Promise.race([settled, turns()]);
}

async function turns(): Promise<false> {
  for (let i = 0; i < TURNS; i++) await setImmediate();
  return false;
}

/** The bytes of a file, if there are no more than so many. From the disk at once: what is this small is in its memory. */
function read({ file, stats }: FoundFile, most: number): Buffer | undefined {
  if (stats.size > most) return undefined;
  let fd: number | undefined;
  try {
    // Without O_NONBLOCK a pipe that took the file's place would hold the server for ever.
    fd = openSync(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const opened = fstatSync(fd, { bigint: true });
    if (!opened.isFile() || opened.ino !== stats.ino || opened.dev !== stats.dev) return undefined;
    const buffer = Buffer.alloc(most + 1); // one more byte shows what has grown
    const length = readSync(fd, buffer, 0, buffer.length, 0);
    return length === Number(opened.size) && length <= most ? buffer.subarray(0, length) : undefined;
  } catch {
    return undefined; // gone again
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * The text of a file; `undefined` if it does not end as complete ones do (a fetch waits for the rest), or a sheet that is not
 * the same in a `<style>` as behind a `<link>`.
 */
export function textOf(body: Buffer, file: string): string | undefined {
  if (!isUtf8(body)) return undefined;
  const text = new TextDecoder().decode(body);
  const fits = /\.css$/i.test(file) ? SHEET_END.test(text) && !TELLING.test(text) : PAGE_END.test(text);
  return fits ? text : undefined;
}
