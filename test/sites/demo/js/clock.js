/** Shows how long the page has been open. A reload starts it again, a new stylesheet doesn't. */
export function startClock(output) {
  const start = performance.now();
  const show = () => {
    const seconds = Math.floor((performance.now() - start) / 1000);
    output.value = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  };
  show();
  setInterval(show, 1000);
}
