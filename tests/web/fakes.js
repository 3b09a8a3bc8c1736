/** A socket and a clock that a test controls. */

/** A clock that the test advances; timers fire in the order of their due times. */
export class FakeClock {
  time = 1_000_000;
  #timers = new Map();
  #ids = 0;

  now = () => this.time;

  setTimer = (run, ms) => {
    this.#timers.set(++this.#ids, { run, due: this.time + ms });
    return this.#ids;
  };

  clearTimer = (id) => {
    this.#timers.delete(id);
  };

  get pending() {
    return this.#timers.size;
  }

  advance(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.due <= end).sort(([, a], [, b]) => a.due - b.due)[0];
      if (due === undefined) break;
      const [id, timer] = due;
      this.#timers.delete(id);
      this.time = Math.max(this.time, timer.due);
      timer.run();
    }
    this.time = end;
  }
}

/** A socket class that records its instances. */
export function fakeSockets() {
  return class FakeWebSocket {
    /** @type {FakeWebSocket[]} */
    static made = [];
    static get last() {
      return this.made.at(-1);
    }

    readyState = 0;
    sent = [];
    onmessage = null;
    onclose = null;
    onerror = null;

    constructor(url) {
      this.url = url;
      FakeWebSocket.made.push(this);
    }

    send(data) {
      if (this.readyState !== 1) throw new Error("sent on a socket that is not open");
      this.sent.push(JSON.parse(data));
    }

    close() {
      this.readyState = 3;
    }

    /** The server accepts and says welcome. */
    welcome(more = {}) {
      this.readyState = 1;
      this.push({ type: "holdline:welcome", ping_interval_ms: 25_000, limits: {}, server_time: 0, ...more });
    }

    /** The server sends. */
    push(...events) {
      for (const event of events) this.onmessage?.({ data: JSON.stringify(event) });
    }

    /** The line breaks, or the server closes. */
    drop(code = 1006, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason });
    }

    /** The upgrade is refused; not every platform reports a close as well. */
    refuse({ close = true } = {}) {
      this.readyState = 3;
      this.onerror?.({});
      if (close) this.onclose?.({ code: 1006, reason: "" });
    }

    /** The sent messages of one type. */
    of(type) {
      return this.sent.filter((message) => message.type === type);
    }
  };
}
