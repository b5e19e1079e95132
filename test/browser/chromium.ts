// The browser of the tests: where it is, how a machine without one gets it, and pages in it.

import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import puppeteer, { type Browser } from 'puppeteer-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** The installed Chromium: `CHROMIUM_PATH`, or the first one on the PATH. */
export function findChromium(env: NodeJS.ProcessEnv = process.env): string | undefined {
  if (env.CHROMIUM_PATH) return env.CHROMIUM_PATH;
  const dirs = (env.PATH ?? '').split(delimiter).filter(Boolean);
  return dirs.flatMap((dir) => NAMES.map((name) => join(dir, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false; // not there, or not to be run: the next one may be
  }
}

/** Finds Chromium, or installs the distribution's where that can be done without asking; else throws what to do. */
export function provideChromium(): string {
  const found = findChromium();
  if (found) return found;
  const hint = 'Install it (Debian, Ubuntu: apt-get install chromium), or set CHROMIUM_PATH to an executable';
  if (process.getuid?.() !== 0 || !isExecutable('/usr/bin/apt-get')) {
    throw new Error(`The browser tests need Chromium, which is not on this machine. ${hint}`);
  }
  console.log('Installing Chromium for the browser tests …');
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args: string[]) =>
    execFileSync('apt-get', ['-qq', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  apt('update');
  apt('install', '-y', '--no-install-recommends', 'chromium');
  const installed = findChromium();
  if (!installed) throw new Error(`apt-get installed chromium, but it is not on the PATH. ${hint}`);
  return installed;
}

/** A headless Chromium with an empty profile; `await using` ends it. */
export async function launch(
  args: readonly string[] = [],
): Promise<AsyncDisposable & { readonly browser: Browser }> {
  const browser = await puppeteer.launch({
    executablePath: provideChromium(),
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...args,
    ],
  });
  return { browser, [Symbol.asyncDispose]: () => browser.close() };
}
