// A request that triggers an event → what it asks for. `POST /__events/<type>` has the event's data as its body, so that
// what goes in is what comes out of the stream. Who may do so is guard.ts's to say.

import type { IncomingMessage } from 'node:http';

/** Bytes of a body at most: as much as the stream remembers. */
const LIMIT = 2 ** 20;

/** A body that is not taken. */
export interface Unreadable {
  readonly status: 400 | 413 | 415;
  readonly reason: string;
}

const TOO_LARGE: Unreadable = { status: 413, reason: `Too large: a body may have ${LIMIT} bytes` };

/** The JSON in a request's body; `null` if it has none. Never rejects. */
export async function readJson(req: IncomingMessage): Promise<{ readonly data: unknown } | Unreadable> {
  const { 'content-type': type, 'content-length': length } = req.headers;
  // A form of another site can send everything but this type.
  if (type !== undefined && !/^application\/json\s*(;|$)/i.test(type)) {
    return { status: 415, reason: 'Send the body with Content-Type: application/json, as curl --json does' };
  }
  if (Number(length) > LIMIT) return TOO_LARGE;
  const body = await readBody(req);
  if (body === undefined) return TOO_LARGE;
  if (body.length === 0) return { data: null };
  if (type === undefined)
    return { status: 415, reason: 'Say what the body is: Content-Type: application/json' };
  try {
    return { data: JSON.parse(body.toString()) };
  } catch {
    return { status: 400, reason: 'The body is no JSON' };
  }
}

/** `undefined` if it is larger than it may be: the rest is read, and forgotten, so that the answer can be heard. */
function readBody(req: IncomingMessage): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    let chunks: Buffer[] = [];
    let size = 0;
    req.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= LIMIT) return void chunks.push(chunk);
      chunks = [];
      resolve(undefined);
    });
    req.on('end', () => resolve(Buffer.concat(chunks)));
    req.on('error', () => resolve(undefined)); // its sender went away, and hears nothing
    req.on('close', () => resolve(undefined));
  });
}

/** The URL paths that a `reload` or `css` is for; none: every page. @throws {RangeError} if the data says something else */
export function pathsOf(data: unknown): readonly string[] {
  if (data === null) return [];
  const { paths = [], ...others } =
    typeof data === 'object' && !Array.isArray(data) ? (data as Record<string, unknown>) : { data };
  if (
    Object.keys(others).length > 0 ||
    !Array.isArray(paths) ||
    !paths.every((path) => typeof path === 'string')
  )
    throw new RangeError('Give the URL paths as {"paths":["/page.html"]}, or nothing for every page');
  return paths;
}

/** What has failed, as `server.error()` takes it. @throws {RangeError} if the data does not say */
export function failureOf(data: unknown): object | string {
  if (typeof data === 'string' && data !== '') return data;
  if (typeof data === 'object' && data !== null && 'message' in data && typeof data.message === 'string')
    return data;
  throw new RangeError(
    'Say what failed as {"message":"…","file":"src/a.js","line":3}, or null once it is mended',
  );
}
