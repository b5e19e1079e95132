// `live-sse reload` and `live-sse send`: words of the command line → a request to a running server.

import { type RequestOptions, request } from 'node:http';
import { resolve, sep } from 'node:path';
import { toPath } from './events.ts';
import { type Note, serversFor } from './running.ts';

/** What is to be triggered: the event's type, and its data. */
export interface Order {
  readonly type: string;
  readonly data: unknown;
}

/** Where it is to be heard. */
export interface Aim {
  readonly url: string;
  readonly folders?: Note['folders'];
}

/** Milliseconds until a server that says nothing is given up. */
const PATIENCE = 5000;

/**
 * The server that is meant: the one at the port, or that of the folder.
 * @throws {Error} in words for the user, if it is none or one of several
 */
export function aim(servers: readonly Note[], folder: string, port: number | undefined): Aim {
  const [first, ...others] =
    port === undefined ? serversFor(servers, folder) : servers.filter(({ url }) => portOf(url) === port);
  if (port !== undefined) return first ?? { url: `http://localhost:${port}/` };
  const urls = (notes: readonly Note[]) => notes.map(({ url }) => url).join(', ');
  if (!first) {
    const running = servers.length > 0 ? `. Others run at ${urls(servers)}` : '';
    throw new Error(
      `Cannot find a server of this folder: start live-sse, or name the port with --port${running}`,
    );
  }
  if (others.length > 0) {
    throw new Error(
      `Cannot tell which server you mean: name its port with --port. ${urls([first, ...others])} run here`,
    );
  }
  return first;
}

function portOf(url: string): number {
  const { port, protocol } = new URL(url);
  return Number(port) || (protocol === 'https:' ? 443 : 80);
}

/**
 * The URL path that a word means: itself, or that of a file of the server.
 * @throws {RangeError} if the file has none
 */
export function pathFor(word: string, { url, folders }: Aim): string {
  const file = resolve(word);
  for (const [prefix, folder] of Object.entries(folders ?? {})) {
    const path = toPath(folder, file, sep);
    if (path !== undefined) return encodeURI(prefix) + path;
  }
  if (word.startsWith('/')) return new URL(`http://localhost${word.replace(/[?#].*$/s, '')}`).pathname;
  throw new RangeError(
    `Cannot reload "${word}": ${url} does not serve it. Give its URL path, like /${word.replace(/^(\.*\/)+/, '')}`,
  );
}

/** The data a word stands for: JSON, or itself. */
export function dataOf(word: string | undefined): unknown {
  if (word === undefined) return null;
  try {
    return JSON.parse(word);
  } catch {
    return word;
  }
}

/**
 * Triggers an event; gives the count of clients it went to.
 * @throws {RangeError} if the server cannot make sense of it
 * @throws {Error} in words for the user, if no server takes it
 */
export async function trigger(url: string, { type, data }: Order): Promise<number> {
  const { status, text } = await post(new URL(`__events/${type}`, url), JSON.stringify(data));
  if (status === 400) throw new RangeError(text.trim());
  const clients = status === 200 ? /^\{"clients":(\d+)\}\s*$/.exec(text)?.[1] : undefined;
  if (clients !== undefined) return Number(clients);
  if (status === 403 || status === 413) throw new Error(`${url} refuses it: ${text.trim()}`);
  throw new Error(`Cannot send to ${url}: what answers there is no live-sse that takes events`);
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

async function post(url: URL, body: string): Promise<Answer> {
  try {
    return await ask(url, body);
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    // Nothing has noted which of the two it speaks: a server over TLS hangs up, or answers with what is no HTTP.
    if (url.protocol === 'http:' && /^(ECONNRESET|EPIPE|HPE_)/.test(code)) {
      return post(Object.assign(new URL(url), { protocol: 'https:' }), body);
    }
    const reason =
      code === 'ECONNREFUSED' ? 'nothing answers there. Start live-sse first' : (cause as Error).message;
    throw new Error(`Cannot send to ${url.origin}/: ${reason}`, { cause });
  }
}

async function ask(url: URL, body: string): Promise<Answer> {
  // Servers start without it.
  const send = url.protocol === 'https:' ? (await import('node:https')).request : request;
  const options: RequestOptions & { rejectUnauthorized: false } = {
    method: 'POST',
    agent: false,
    timeout: PATIENCE,
    // Whatever it is called in the network: it is reached on this machine, or refuses.
    headers: {
      Host: `localhost:${portOf(url.href)}`,
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
    },
    // It is on this machine, its certificate is its own, and nothing secret is sent.
    rejectUnauthorized: false,
  };
  return new Promise((resolve, reject) => {
    const req = send(url, options, (res) => {
      let text = '';
      res.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      res.on('error', reject);
      res.on('end', () => resolve({ status: res.statusCode ?? 0, text }));
    });
    req.on('timeout', () => req.destroy(new Error(`no answer in ${PATIENCE / 1000} s`)));
    req.on('error', reject);
    req.end(body);
  });
}
