// The events that pages hear from live-sse, for TypeScript: `import 'live-sse/client'`, or "types": ["live-sse/client"].

/** What live-sse does about a change: fetch stylesheets or other files again in place, merge HTML, or load the page anew. */
export type Action = 'css' | 'assets' | 'html' | 'reload';

/** What has changed, and what is about to happen. */
export interface PageChange {
  /** In the order in which they are done. If one of them turns out to be unsure, another event announces a `reload`. */
  readonly actions: readonly Action[];
  /** URL paths of the changed files that this page uses, percent-encoded; none: everything may have changed. */
  readonly paths: readonly string[];
}

declare global {
  interface WindowEventMap {
    /** Comes before a change is shown; `preventDefault()` leaves that to the page. */
    'live-sse:change': CustomEvent<PageChange>;
  }
}
