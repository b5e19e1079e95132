// WebKitGTK: its MiniBrowser on a display of its own, driven by WebKitWebDriver.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Readable } from 'node:stream';
import { Script } from 'node:vm';
import { freePort, until, within } from '../harness.ts';
import type { Driver, LaunchOptions, Started } from './engine.ts';
import { type Program, provide } from './programs.ts';
import { newSession, type Session } from './webdriver.ts';

const DRIVER: Program = {
  title: "WebKitGTK's WebDriver",
  names: ['WebKitWebDriver'],
  debian: 'webkit2gtk-driver',
  variable: 'WEBKIT_DRIVER_PATH',
};
const DISPLAY: Program = { title: 'Xvfb', names: ['Xvfb'], debian: 'xvfb', variable: 'XVFB_PATH' };

/** Finds the driver and a display for it, or installs the distribution's; else throws what to do. */
export function provideWebKit(): void {
  provide(DRIVER);
  provide(DISPLAY);
}

/** A browser with an empty profile. */
export async function webkit(options: LaunchOptions): Promise<Started> {
  const closers: (() => unknown)[] = [];
  const close = async () => {
    for (const end of closers.splice(0).reverse()) await end();
  };
  try {
    const display = await startDisplay(closers);
    const base = await startDriver(display, closers);
    const names = options.examples ? await nameServer(closers) : undefined;
    const session = await within('the browser', newSession(base, capabilities(options, names)), 60_000);
    // Its process ends with the driver in any case.
    closers.push(() => within('the end of the session', session.end()).catch(() => {}));
    return { open: () => openWindow(session), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function capabilities({ anyCertificate, dark }: LaunchOptions, proxy: string | undefined): object {
  const args = ['--automation', '--autoplay-policy=allow', ...(dark ? ['--dark-mode'] : [])];
  return {
    ...(anyCertificate && { acceptInsecureCerts: true }),
    // Without exceptions: a list of them (noProxy) makes WebKitGTK 2.50's browser crash now and then as it starts, and
    // the driver never answers then.
    ...(proxy && { proxy: { proxyType: 'manual', httpProxy: proxy } }),
    'webkitgtk:browserOptions': { args },
  };
}

/** Ends a process that was started here, with this one at the latest. */
function endLater(child: ChildProcess, closers: (() => unknown)[]): void {
  const kill = () => child.kill();
  process.once('exit', kill);
  closers.push(async () => {
    process.off('exit', kill);
    const gone = once(child, 'exit');
    if (child.exitCode === null && child.signalCode === null && child.kill()) await gone;
  });
}

/** A display that nobody sees; gives its name. */
async function startDisplay(closers: (() => unknown)[]): Promise<string> {
  const args = ['-displayfd', '3', '-screen', '0', '1280x1024x24', '-nolisten', 'tcp'];
  const child = spawn(provide(DISPLAY), args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  endLater(child, closers);
  const [number] = await within('a display', once(child.stdio[3] as Readable, 'data'));
  return `:${String(number).trim()}`;
}

/** The driver; gives the base of its addresses. */
async function startDriver(display: string, closers: (() => unknown)[]): Promise<string> {
  const port = await freePort();
  const env = { ...process.env, DISPLAY: display, NO_AT_BRIDGE: '1', GTK_A11Y: 'none' };
  const child = spawn(provide(DRIVER), [`--port=${port}`], { env, stdio: 'ignore' });
  endLater(child, closers);
  const base = `http://127.0.0.1:${port}`;
  const answers = () =>
    fetch(`${base}/status`).then(
      ({ ok }) => ok,
      () => false, // it does not listen yet
    );
  await until('the driver to listen', answers);
  return base;
}

/** WebKit cannot be told what a name means: its proxy takes all of them for this machine. */
async function nameServer(closers: (() => unknown)[]): Promise<string> {
  const server = createServer((req, res) => {
    const { port, pathname, search } = new URL(req.url ?? '');
    const { method, headers } = req;
    const forward = request(
      { host: '127.0.0.1', port: port || 80, path: pathname + search, method, headers },
      (answer) => {
        res.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(res);
      },
    );
    forward.on('error', () => res.destroy());
    res.on('close', () => forward.destroy());
    req.pipe(forward);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The size of page that Puppeteer gives its browsers. */
const VIEWPORT = { width: 800, height: 600 };

async function openWindow(session: Session): Promise<Driver> {
  const handle = await session.open();
  const to: Command = (method, path, body) => session.to(handle, method, path, body);
  const execute = (script: string) => to('POST', '/execute/sync', { script, args: [] });
  await resize(to, execute);
  const act = (...sources: object[]) => to('POST', '/actions', { actions: sources });
  return {
    run: (code) => run(execute, code),
    goto: async (url) => {
      await to('POST', '/url', { url });
    },
    goBack: async () => {
      await to('POST', '/back', {});
    },
    reload: async () => {
      await to('POST', '/refresh', {});
    },
    click: async (selector) => {
      const [x, y] = (await execute(`return (${middle})(${JSON.stringify(selector)})`)) as [number, number];
      const press = [
        { type: 'pointerMove', x, y },
        { type: 'pointerDown', button: 0 },
        { type: 'pointerUp', button: 0 },
      ];
      await act({ type: 'pointer', id: 'mouse', actions: press });
    },
    press: async (key) => {
      await act({ type: 'key', id: 'keyboard', actions: stroke(KEYS[key] ?? key) });
    },
    write: async (text) => {
      await act({ type: 'key', id: 'keyboard', actions: [...text].flatMap(stroke) });
    },
    // Each window is a visible one: the display has room for all of them.
    bringToFront: async () => {},
    screenshot: async () => (await to('GET', '/screenshot')) as string,
    close: async () => {
      await to('DELETE', '/window');
    },
  };
}

type Command = (method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) => Promise<unknown>;

/** Gives the page in a window its size: the window's is larger by the bars of the browser. */
async function resize(to: Command, execute: (script: string) => Promise<unknown>): Promise<void> {
  const inner = () => execute('return [innerWidth, innerHeight]') as Promise<[number, number]>;
  const target = async () => {
    const { width, height } = (await to('GET', '/window/rect')) as typeof VIEWPORT;
    const [innerWidth, innerHeight] = await inner();
    return { width: VIEWPORT.width + width - innerWidth, height: VIEWPORT.height + height - innerHeight };
  };
  let asked = 0;
  await until('the window to have its size', async () => {
    const [width, height] = await inner();
    if (width === VIEWPORT.width && height === VIEWPORT.height) return true;
    // What is measured before the window's first layout is wrong.
    if (asked++ % 50 === 0) await to('POST', '/window/rect', await target());
    return false;
  });
}

const KEYS: Partial<Record<string, string>> = { Escape: '\uE00C', Tab: '\uE004', Enter: '\uE007' };

const stroke = (value: string) => [
  { type: 'keyDown', value },
  { type: 'keyUp', value },
];

/** In the page: where to click. */
const middle = `(selector) => {
  let root = document;
  let element;
  for (const part of selector.split('>>>')) {
    element = root.querySelector(part);
    root = element.shadowRoot;
  }
  element.scrollIntoView({ block: 'nearest' });
  const { x, y, width, height } = element.getBoundingClientRect();
  return [Math.round(x + width / 2), Math.round(y + height / 2)];
}`;

/** What a page answers: a value, or the number under which the outcome of a promise will be found. */
type Outcome = { readonly value?: unknown } | { readonly error: string } | { readonly later: number };

/**
 * Runs code in the page. A promise's outcome is asked for again and again: a command that waited for it would keep
 * the driver from all other windows, and would not end if the page went away meanwhile.
 */
async function run(execute: (script: string) => Promise<unknown>, code: string): Promise<unknown> {
  const ask = async (script: string) => JSON.parse(String(await execute(script))) as Outcome | null;
  const first = await ask(`
    const waiting = globalThis[Symbol.for('waiting')] ??= [];
    const say = (value) => JSON.stringify({ value });
    try {
      const value = (() => { ${asBody(code)}\n })();
      if (typeof value?.then !== 'function') return say(value);
      const later = waiting.push(null) - 1;
      value.then((value) => say(value)).catch((error) => JSON.stringify({ error: String(error) })).then((text) => {
        waiting[later] = text;
      });
      return JSON.stringify({ later });
    } catch (error) {
      return JSON.stringify({ error: String(error) });
    }`);
  const outcome =
    first && 'later' in first
      ? await until(
          `the promise of ${code}`,
          async () => (await ask(`return globalThis[Symbol.for('waiting')][${first.later}]`)) ?? undefined,
          60_000,
        )
      : first;
  if (outcome && 'error' in outcome) throw new Error(outcome.error);
  return outcome && 'value' in outcome ? outcome.value : undefined;
}

/** Code as the body of a function: an expression is its value. A page's policy may forbid eval(), which would say. */
function asBody(code: string): string {
  const body = `return (${code}\n);`;
  try {
    new Script(`async () => { ${body} }`);
    return body;
  } catch {
    return code; // statements, of which nobody wants the value
  }
}
