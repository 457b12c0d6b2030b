// The page loads itself anew, but not under the reader's hands.

export function keepFresh(everySeconds, isBusy) {
  if (!everySeconds) return;
  const due = () => {
    if (document.hidden || isBusy() || String(getSelection())) setTimeout(due, 1000);
    else location.reload();
  };
  setTimeout(due, 1000 * everySeconds);
}
