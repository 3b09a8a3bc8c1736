/** A fake socket and a fake clock, both controlled by the test. */

/** A clock that the test advances. Timers fire in the order of their due times. */
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

/** Returns a socket class that records its instances. */
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

    constructor(url, protocol) {
      this.url = url;
      this.protocol = protocol;
      FakeWebSocket.made.push(this);
    }

    send(data) {
      if (this.readyState !== 1) throw new Error("sent on a socket that is not open");
      this.sent.push(JSON.parse(data));
    }

    close() {
      this.readyState = 3;
    }

    /** Simulates that the server accepts the socket and sends its welcome message. */
    welcome(more = {}) {
      this.readyState = 1;
      this.push({ type: "holdline:welcome", ping_interval_ms: 25_000, limits: {}, server_time: 0, ...more });
    }

    /** Simulates events from the server. */
    push(...events) {
      for (const event of events) this.onmessage?.({ data: JSON.stringify(event) });
    }

    /** Simulates a lost connection, or a close by the server. */
    drop(code = 1006, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason });
    }

    /** Simulates a refused upgrade. Not every platform also reports a close. */
    refuse({ close = true } = {}) {
      this.readyState = 3;
      this.onerror?.({});
      if (close) this.onclose?.({ code: 1006, reason: "" });
    }

    /** Returns the sent messages of one type. */
    of(type) {
      return this.sent.filter((message) => message.type === type);
    }
  };
}
