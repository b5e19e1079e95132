// The public names of `live-sse`.

export type { Change, PageEvent } from './events.ts';
export type { Handler, InPlace, Live, LiveEvents, LiveOptions } from './live.ts';
export { live } from './live.ts';
export type { LiveServer, StartOptions } from './server.ts';
export { start } from './server.ts';
export type { Matcher } from './watch.ts';
