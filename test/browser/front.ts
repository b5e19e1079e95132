// A server in front of another one, as a proxy is: it passes all on but what a test wants otherwise.

import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Front extends AsyncDisposable {
  readonly url: string;
}

export interface FrontOptions {
  /** What it adds to each path of the server behind it: `/prefix`. */
  readonly prefix?: string;
  /** Runs in each page right before our client does. */
  readonly script?: string;
  /** Answers by itself what it gives true for; the rest goes on when it says so. */
  readonly answer?: (req: IncomingMessage, res: ServerResponse) => boolean | Promise<boolean>;
}

const CLIENT = '/__events/client.js';

export async function front(
  behind: { readonly host: string; readonly port: number },
  { prefix = '', script = '', answer = () => false }: FrontOptions,
): Promise<Front> {
  const server = createServer(async (req, res) => {
    if (await answer(req, res)) return;
    const path = (req.url ?? '').slice(prefix.length);
    const { method, headers } = req;
    const { host, port } = behind;
    const first = script && path === CLIENT ? `${script};\n` : '';
    const { 'accept-encoding': _encoding, ...plain } = headers; // nothing can be put before compressed text
    const forward = request({ host, port, path, method, headers: first ? plain : headers }, (back) => {
      const { 'content-length': _length, ...longer } = back.headers;
      res.writeHead(back.statusCode ?? 502, first ? longer : back.headers);
      if (first) res.write(first);
      back.pipe(res);
    });
    forward.on('error', () => res.destroy());
    res.on('close', () => forward.destroy());
    req.pipe(forward);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}/`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
