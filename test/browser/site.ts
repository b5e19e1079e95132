// A folder that is served, and pages of it in a browser context of their own; for tests that look at what pages show.

import { type LiveServer, type StartOptions, start } from '../../src/index.ts';
import { type Folder, folder, freePort, until } from '../harness.ts';
import { type Context, launch, type Page } from './engine.ts';

export interface Site extends AsyncDisposable {
  readonly server: LiveServer;
  readonly folder: Folder;
  /** Lines for the terminal. */
  readonly notices: readonly string[];
  /** Opens the start page, perhaps through a server in front, and waits until it has a stream. */
  open(url?: string): Promise<Page>;
}

export interface Sites extends AsyncDisposable {
  serve(files: Record<string, string | Uint8Array>, options?: StartOptions): Promise<Site>;
}

export async function sites(): Promise<Sites> {
  const browser = await launch();
  return {
    serve: async (files, options) => serve(await browser.newContext(), files, options),
    [Symbol.asyncDispose]: () => browser[Symbol.asyncDispose](),
  };
}

async function serve(
  context: Context,
  files: Record<string, string | Uint8Array>,
  options: StartOptions = {},
): Promise<Site> {
  const site = folder(files);
  const server = await start({ root: site.path, port: await freePort(), host: '127.0.0.1', ...options });
  const notices: string[] = [];
  server.on('notice', (line) => notices.push(line));
  return {
    server,
    folder: site,
    notices,
    open: async (url = server.url) => {
      const page = await context.newPage();
      await page.goto(url);
      await until('the page to listen', () => server.clients > 0);
      return page;
    },
    [Symbol.asyncDispose]: async () => {
      await context.close();
      await server.close();
      site[Symbol.dispose]();
    },
  };
}

/** Types into a field of the front page. Firefox brings the caret into view a frame later, whatever has scrolled since. */
export async function typeInto(page: Page, selector: string, text: string): Promise<void> {
  await page.type(selector, text);
  await page.evaluate(
    'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))',
  );
}

/** Waits until an expression has this value in the page, whatever happens to the page meanwhile. */
export async function see(page: Page, expression: string, expected: unknown): Promise<void> {
  let last: unknown;
  await until(`${expression} to be ${JSON.stringify(expected)}`, async () => {
    last = await page.evaluate(expression).catch(() => undefined); // between two pages
    return JSON.stringify(last) === JSON.stringify(expected);
  }).catch((error: Error) => {
    throw new Error(`${error.message}; it is ${JSON.stringify(last)}`);
  });
}
