// Chromium, driven over its own protocol.

import puppeteer, { type Browser } from 'puppeteer-core';
import type { LaunchOptions, Started } from './engine.ts';
import { type Program, provide } from './programs.ts';
import { fromPuppeteer } from './puppeteer.ts';

const CHROMIUM: Program = {
  title: 'Chromium',
  names: ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'],
  debian: 'chromium',
  variable: 'CHROMIUM_PATH',
};

/** Finds Chromium, or installs the distribution's where that can be done without asking; else throws what to do. */
export function provideChromium(): string {
  return provide(CHROMIUM);
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
    // Puppeteer switches the back/forward cache off, which users have.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
  });
  return { browser, [Symbol.asyncDispose]: () => browser.close() };
}

/** Chromium as one of the engines. */
export async function chromium(options: LaunchOptions): Promise<Started> {
  const args = ['--autoplay-policy=no-user-gesture-required'];
  if (options.anyCertificate) args.push('--ignore-certificate-errors');
  if (options.examples) args.push('--host-resolver-rules=MAP *.example 127.0.0.1');
  if (options.dark) args.push('--blink-settings=preferredColorScheme=0');
  if (options.manyTabs) args.push('--renderer-process-limit=4');
  return fromPuppeteer((await launch(args)).browser);
}
