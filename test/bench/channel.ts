// A page's end of a live channel, event stream or WebSocket, in as few bytes and as little time as there can be.

import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { until } from '../harness.ts';
import type { Running } from './peers.ts';

export interface Ear extends Disposable {
  readonly isOpen: () => boolean;
}

/** Listens until it is disposed of; each word of a change is told with its time. */
export async function listen(server: Running, onChange: (at: number) => void, path?: string): Promise<Ear> {
  const { channel } = server.peer;
  if (!channel) throw new Error(`${server.peer.name} does not tell of changes`);
  const where = path ?? (await channel.path(server.port));
  let socket: Socket;
  let open = false;
  let ended = false;
  const join = () => {
    const own = connect(server.port, '127.0.0.1');
    socket = own;
    let greeted = channel.greeting === undefined;
    own.setNoDelay();
    own.on('connect', () => own.write(head(server, where)));
    own.on('error', () => {}); // shows as a close
    own.on('close', () => {
      if (socket !== own) return;
      open = false;
      if (!ended) setTimeout(join, 50).unref();
    });
    own.on('data', (chunk: Buffer) => {
      const at = performance.now();
      const text = chunk.toString('latin1');
      if (!open && /^HTTP\/1\.1 (101|200)/.test(text)) open = greeted;
      for (const message of channel.kind === 'ws' ? frames(chunk) : [text]) {
        if (message === '2') own.write(frame('3')); // engine.io asks whether we are there
        if (!greeted && channel.greeting) {
          own.write(frame(channel.greeting));
          greeted = true;
        } else if (greeted && message.startsWith('40/')) open = true;
        if (!channel.isChange(message)) continue;
        onChange(at);
        if (!channel.once || socket !== own) continue;
        own.destroy();
        join();
      }
    });
  };
  join();
  await until(`${server.peer.name}'s channel to be open`, () => open, 30_000);
  return {
    isOpen: () => open,
    [Symbol.dispose]: () => {
      ended = true;
      socket.destroy();
    },
  };
}

function head({ peer, port }: Running, path: string): string {
  const { channel } = peer;
  const origin = `Host: localhost:${port}\r\n`;
  const lines =
    channel?.kind === 'ws'
      ? `Origin: http://localhost:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
        `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n` +
        (channel.protocol ? `Sec-WebSocket-Protocol: ${channel.protocol}\r\n` : '')
      : 'Accept: text/event-stream\r\n';
  return `GET ${path} HTTP/1.1\r\n${origin}${lines}\r\n`;
}

/** The text frames in what came at once; the answer to the handshake may come before them. */
function frames(chunk: Buffer): string[] {
  const found: string[] = [];
  const start = chunk.subarray(0, 5).toString() === 'HTTP/' ? chunk.indexOf('\r\n\r\n') + 4 : 0;
  for (let at = start; at + 2 <= chunk.length; ) {
    const code = (chunk[at] ?? 0) & 15;
    const short = (chunk[at + 1] ?? 0) & 127;
    const size = short === 126 ? chunk.readUInt16BE(at + 2) : short;
    const from = at + (short === 126 ? 4 : 2);
    if (code === 1) found.push(chunk.toString('utf8', from, from + size));
    at = from + size;
  }
  return found;
}

/** A short text as a client has to send it: masked, here with zeros. */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}
