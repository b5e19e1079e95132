import { startClock } from './clock.js';

for (const output of document.querySelectorAll('[data-age]')) startClock(output);

document.querySelector('#report')?.addEventListener('submit', (event) => {
  event.preventDefault();
  const { name, weather } = Object.fromEntries(new FormData(event.target));
  document.querySelector('[data-received]').value = `${weather}, from ${name || 'somebody'}. Noted, and sent nowhere.`;
});
