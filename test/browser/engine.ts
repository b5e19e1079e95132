// The browser that ENGINE names, and the little of it that all three can do. What one of them cannot do is declared
// case by case, with its reason: `except()`.

import type { Page as PuppeteerPage } from 'puppeteer-core';
import { until } from '../harness.ts';
import { chromium, provideChromium } from './chromium.ts';
import { firefox, provideFirefox } from './firefox.ts';
import { provideWebKit, webkit } from './webkit.ts';

export const ENGINES = ['chromium', 'firefox', 'webkit'] as const;
export type EngineName = (typeof ENGINES)[number];

/** What a browser is started for. */
export interface LaunchOptions {
  /** Any certificate will do. */
  readonly anyCertificate?: boolean;
  /** The names `evil.example` and `rebound.example` are this machine, as for an attacker who owns them. */
  readonly examples?: boolean;
  /** The user has asked for dark pages. */
  readonly dark?: boolean;
  /** So many tabs that a process for each would be most of the time. */
  readonly manyTabs?: boolean;
}

/** What an engine's driver does; code is text, values are JSON. */
export interface Driver {
  /** The value of an expression, or of statements of which the last may be one; a promise is waited for. */
  run(code: string): Promise<unknown>;
  /** Navigates, and waits until the page is loaded. */
  goto(url: string): Promise<void>;
  goBack(): Promise<void>;
  reload(): Promise<void>;
  /** Clicks the middle of the first element that matches; `>>>` goes into a shadow root. */
  click(selector: string): Promise<void>;
  press(key: 'Escape' | 'Tab' | 'Enter' | 'j' | 'k'): Promise<void>;
  /** Types into what has the focus. */
  write(text: string): Promise<void>;
  bringToFront(): Promise<void>;
  /** A picture of the page: PNG, base64. */
  screenshot(): Promise<string>;
  close(): Promise<void>;
  /** The page as Puppeteer knows it, where Puppeteer drives the engine. */
  readonly puppeteer?: PuppeteerPage;
}

type Tags = HTMLElementTagNameMap;

/** A page; the tests know no other. */
export interface Page extends Driver {
  evaluate(code: string): Promise<unknown>;
  evaluate<Args extends unknown[], R>(code: (...args: Args) => R, ...args: Args): Promise<Awaited<R>>;
  /** The function's value for the first element that matches. */
  $eval<K extends keyof Tags, R>(selector: K, code: (element: Tags[K]) => R): Promise<Awaited<R>>;
  $eval<R>(selector: string, code: (element: Element) => R): Promise<Awaited<R>>;
  /** The function's value for all elements that match. */
  $$eval<K extends keyof Tags, R>(selector: K, code: (elements: Tags[K][]) => R): Promise<Awaited<R>>;
  focus(selector: string): Promise<void>;
  /** Clicks, then types. */
  type(selector: string, text: string): Promise<void>;
  /** The document as HTML, with its doctype. */
  content(): Promise<string>;
  url(): Promise<string>;
  /** Waits until an expression is true, whatever happens to the page meanwhile. */
  becomes(code: string, ms?: number): Promise<void>;
}

/** Pages that are closed together. */
export interface Context {
  newPage(): Promise<Page>;
  close(): Promise<void>;
}

export interface Browser extends AsyncDisposable {
  newPage(): Promise<Page>;
  newContext(): Promise<Context>;
}

/** A started browser, as chromium.ts, firefox.ts and webkit.ts give it. */
export interface Started {
  open(): Promise<Driver>;
  close(): Promise<void>;
}

const START: Record<EngineName, (options: LaunchOptions) => Promise<Started>> = { chromium, firefox, webkit };
const PROVIDE: Record<EngineName, () => void> = {
  chromium: provideChromium,
  firefox: provideFirefox,
  webkit: provideWebKit,
};

/** Whether this is one of the three. */
export const isEngine = (name: string): name is EngineName => ENGINES.some((known) => known === name);

/** The engine that these tests run in. */
export const engine: EngineName = named(process.env.ENGINE ?? 'chromium');

function named(name: string): EngineName {
  if (isEngine(name)) return name;
  throw new RangeError(`Unknown ENGINE "${name}": it is one of ${ENGINES.join(', ')}`);
}

/** Finds an engine, or installs the distribution's where that can be done without asking; else throws what to do. */
export function provide(name: EngineName): void {
  PROVIDE[name]();
}

/** A browser with an empty profile; `await using` ends it. */
export async function launch(options: LaunchOptions = {}): Promise<Browser> {
  const started = await START[engine](options);
  const newPage = async () => pageOf(await started.open());
  return {
    newPage,
    newContext: async () => {
      const pages: Page[] = [];
      return {
        newPage: async () => {
          const page = await newPage();
          pages.push(page);
          return page;
        },
        close: async () => {
          // One that the test has closed, or that has crashed, is closed.
          await Promise.all(pages.map((page) => page.close().catch(() => {})));
        },
      };
    },
    [Symbol.asyncDispose]: started.close,
  };
}

/** tsx wraps the functions inside those that are sent to the page in this, to keep their names. */
const NAMED = 'const __name = (value) => value;';

function call(code: (...args: never[]) => unknown, args: readonly unknown[]): string {
  const list = args.map((arg) => JSON.stringify(arg) ?? 'undefined').join(', ');
  return `(() => { ${NAMED} return (${code})(${list}) })()`;
}

function pageOf(driver: Driver): Page {
  const evaluate = (code: string | ((...args: never[]) => unknown), ...args: readonly unknown[]) =>
    driver.run(typeof code === 'string' ? code : call(code, args));
  const on = (elements: string) => (selector: string, code: (found: never) => unknown) =>
    driver.run(
      `(() => { ${NAMED} return (${code})(${elements.replace('$', () => JSON.stringify(selector))}) })()`,
    );
  const page = {
    ...driver,
    evaluate,
    $eval: on('document.querySelector($)'),
    $$eval: on('[...document.querySelectorAll($)]'),
    focus: async (selector: string) => {
      await driver.run(`void document.querySelector(${JSON.stringify(selector)}).focus()`);
    },
    type: async (selector: string, text: string) => {
      await driver.click(selector);
      await driver.write(text);
    },
    content: () =>
      driver.run(
        `[...document.childNodes].map((node) =>
          node.outerHTML ?? new XMLSerializer().serializeToString(node)).join('')`,
      ),
    url: () => driver.run('location.href'),
    becomes: async (code: string, ms?: number) => {
      await until(`${code} in the page`, () => driver.run(`!!(${code})`).catch(() => false), ms); // between two pages
    },
  };
  return page as unknown as Page; // the values of the page's functions are what their types say
}

/** Why an engine cannot do a case, by its name. */
export type Reasons = Partial<Record<EngineName, string>>;

type Register = (name: string, body: never) => void;

/** How a case that this engine cannot do is told of; test/run.ts counts these lines. */
export const CANNOT = 'cannot do:';

/** `test` for a case that some engines cannot do, each with the reason; there it is counted and printed instead. */
export function except<T extends Register>(reasons: Reasons, test: T): T {
  const reason = reasons[engine];
  if (reason === undefined) return test;
  const declare: Register = (name) => console.log(`${engine} ${CANNOT} ${name} (${reason})`);
  return declare as T;
}

/** The page as Puppeteer knows it: for what Chromium alone can do. */
export function puppeteerOf(page: Page): PuppeteerPage {
  if (!page.puppeteer) throw new Error(`Puppeteer does not drive ${engine}`);
  return page.puppeteer;
}
