// Stock Firefox ESR, driven over WebDriver BiDi.

import puppeteer from 'puppeteer-core';
import type { LaunchOptions, Started } from './engine.ts';
import { type Program, provide } from './programs.ts';
import { fromPuppeteer } from './puppeteer.ts';

const FIREFOX: Program = {
  title: 'Firefox',
  names: ['firefox-esr', 'firefox'],
  debian: 'firefox-esr',
  variable: 'FIREFOX_PATH',
};

/** Finds Firefox, or installs the distribution's where that can be done without asking; else throws what to do. */
export function provideFirefox(): string {
  return provide(FIREFOX);
}

/** A headless Firefox with an empty profile. */
export async function firefox(options: LaunchOptions): Promise<Started> {
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: provideFirefox(),
    headless: true,
    ...(options.anyCertificate && { acceptInsecureCerts: true }),
    extraPrefsFirefox: {
      'media.autoplay.default': 0,
      ...(options.examples && { 'network.dns.localDomains': 'evil.example,rebound.example' }),
      ...(options.dark && { 'layout.css.prefers-color-scheme.content-override': 0 }),
      // Four processes for all tabs, as for the other engines
      ...(options.manyTabs && { 'dom.ipc.processCount': 4, 'dom.ipc.processCount.webIsolated': 1 }),
    },
  });
  return fromPuppeteer(browser);
}
