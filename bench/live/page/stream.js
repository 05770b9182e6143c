// The events of the server. EventSource reconnects by itself; a connection that is silent, as after a
// sleep, is reopened.

const STALE_MS = 3000;
const CHECK_MS = 1000;

// `onConnection` receives "connected" or "reconnecting".
export function connect({ onHello, onTick, onConnection }) {
  let source, heard = performance.now();

  const received = (handle) => (event) => {
    heard = performance.now();
    onConnection("connected");
    handle(JSON.parse(event.data));
  };

  function open() {
    source?.close();
    heard = performance.now();
    source = new EventSource("events");
    source.addEventListener("hello", received(onHello));
    source.addEventListener("tick", received(onTick));
    source.addEventListener("error", () => onConnection("reconnecting"));
  }

  function reopenIfStale() {
    if (document.hidden || performance.now() - heard < STALE_MS) return;
    onConnection("reconnecting");
    open();
  }

  open();
  setInterval(reopenIfStale, CHECK_MS);
  document.addEventListener("visibilitychange", reopenIfStale);
}
