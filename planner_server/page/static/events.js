// Server-sent events by fetch, because EventSource cannot send a token; opened again whenever they break off.

import { ApiError, request } from "./api.js";

const SHORTEST_MS = 250;
const LONGEST_MS = 5000;
const SILENCE_MS = 40_000; // the service says something every 15 s

/** Reads `event:`/`data:` blocks out of pieces of text. */
export class EventParser {
  constructor(handle) { this.rest = ""; this.handle = handle; }

  feed(text) {
    const blocks = (this.rest + text).split("\n\n");
    this.rest = blocks.pop();
    for (const block of blocks) {
      let kind = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) kind = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length) this.handle(kind, JSON.parse(data.join("\n")));
    }
  }
}

/** Follows sessions over one connection; `status(name, detail)` is told live, connecting, retrying, refused or idle. */
export class Feed {
  constructor({ event, status }) {
    this.event = event;
    this.status = status;
    this.ids = [];
    this.abort = null;
    this.isPaused = false;
  }

  /** Follow these sessions from now on. */
  follow(ids) {
    if (ids.length === this.ids.length && ids.every((id, index) => id === this.ids[index])) return;
    this.ids = [...ids];
    this.restart();
  }

  /** A tab nobody looks at gives its connection back: a browser has six of them for all tabs. */
  setPaused(isPaused) {
    if (this.isPaused === isPaused) return;
    this.isPaused = isPaused;
    this.restart();
  }

  restart() {
    this.abort?.abort();
    this.abort = null;
    if (!this.ids.length || this.isPaused) { this.status("idle"); return; }
    this.abort = new AbortController();
    this.run(this.abort.signal, [...this.ids]);
  }

  async run(signal, ids) {
    let wait = SHORTEST_MS;
    const query = ids.map((id) => `session=${encodeURIComponent(id)}`).join("&");
    while (!signal.aborted) {
      this.status("connecting");
      try {
        await this.read(`/v1/stream?${query}`, signal, () => { wait = SHORTEST_MS; });
        if (signal.aborted) return;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status === 401) { this.status("refused", error.message); return; }
        this.problem = error.message;
      }
      this.status("retrying", `again in ${(wait / 1000).toFixed(1)} s`);
      await pause(wait * (0.8 + 0.4 * Math.random()), signal);
      wait = Math.min(LONGEST_MS, 2 * wait);
    }
  }

  async read(path, signal, onFirst) {
    const own = new AbortController();
    const stop = () => own.abort();
    signal.addEventListener("abort", stop);
    let silence = setTimeout(stop, SILENCE_MS);
    try {
      const response = await request(path, { signal: own.signal, headers: { Accept: "text/event-stream" } });
      const parser = new EventParser((kind, data) => this.event(kind, data));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      this.status("live");
      for (let isFirst = true; ; isFirst = false) {
        const { done, value } = await reader.read();
        if (done) return;
        if (isFirst) onFirst();
        clearTimeout(silence);
        silence = setTimeout(stop, SILENCE_MS);
        parser.feed(value);
      }
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", stop);
    }
  }
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});
