// A server as small as can be for the client's tests, until start() can take its place.

import { readFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';

const CLIENT = new URL('../../dist/client/', import.meta.url);
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
};

export interface StandIn extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly clients: number;
  readonly server: Server;
  send(type: string, data: unknown): string;
  close(): Promise<void>;
}

export async function start({
  root,
  port = 0,
}: {
  readonly root: string;
  readonly port?: number;
}): Promise<StandIn> {
  const boot = Date.now().toString(36);
  let n = 0;
  const history: string[] = [];
  const clients = new Set<ServerResponse>();

  const stream = (res: ServerResponse, last: string | null) => {
    res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const [, lastBoot, lastN] = /^(.*)-(\d+)$/.exec(last ?? '') ?? [];
    const current = lastBoot === boot;
    const nothing = !last || (current && Number(lastN) === n);
    res.write('retry: 500\n\n');
    res.write(
      `event: hello\n${nothing ? `id: ${boot}-${n}\n` : ''}data: ${JSON.stringify({ boot, version: 1 })}\n\n`,
    );
    if (last && !current) res.write(`event: reload\nid: ${boot}-${n}\ndata: {"paths":[]}\n\n`);
    else if (last) for (const block of history.slice(Number(lastN))) res.write(block);
    clients.add(res);
    res.on('close', () => clients.delete(res));
  };

  const server = createServer((req, res) => {
    const url = new URL(req.url ?? '/', 'http://localhost');
    const at = `${boot}-${n}`;
    if (url.pathname === '/__events') return stream(res, url.searchParams.get('lastEventId'));
    const client = /^\/__events\/(\w+)\.js$/.exec(url.pathname)?.[1];
    const path = url.pathname.endsWith('/') ? `${url.pathname}index.html` : url.pathname;
    const file = client
      ? new URL(`${client === 'client' ? 'index' : client}.js`, CLIENT)
      : join(root, decodeURIComponent(path));
    try {
      let body = readFileSync(file);
      const type = client ? '.js' : extname(path);
      const token = url.searchParams.get('live-sse');
      if (token && type === '.css') {
        body = Buffer.from(
          body
            .toString()
            .replace(/@import\s+(url\()?["']([^"']+)["']\)?/g, (all, _, href) =>
              all.replace(href, `${href}${href.includes('?') ? '&' : '?'}live-sse=${token}`),
            ),
        );
      }
      if (type === '.html') {
        const tag = `<script async src="/__events/client.js" data-id="${at}" data-file="${path}"></script>`;
        body = Buffer.from(body.toString().replace('<head>', `<head>${tag}`));
      }
      res.writeHead(200, {
        'content-type': TYPES[type] ?? 'application/octet-stream',
        'cache-control': token ? 'max-age=31536000, immutable' : 'no-cache',
      });
      res.end(body);
    } catch {
      const tag = `<script async src="/__events/client.js" data-id="${at}"></script>`;
      res.writeHead(404, { 'content-type': 'text/html' }).end(`<!doctype html>${tag}Not Found`);
    }
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const timer = setInterval(() => {
    for (const client of clients) client.write('event: ping\ndata: {}\n\n');
  }, 10_000);
  const address = server.address() as AddressInfo;
  const close = async () => {
    clearInterval(timer);
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  };
  return {
    url: `http://127.0.0.1:${address.port}/`,
    port: address.port,
    get clients() {
      return clients.size;
    },
    server,
    send: (type, data) => {
      const block = `event: ${type}\nid: ${boot}-${++n}\ndata: ${JSON.stringify(data)}\n\n`;
      history.push(block);
      for (const client of clients) client.write(block);
      return `${boot}-${n}`;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
