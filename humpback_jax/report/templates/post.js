// What a person says, sent to the server that the page came from.

/** Whether the server has saved the row; if not, #problem says why. */
async function send(row) {
  byId("problem").textContent = "";
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("judgments", { method: "POST", headers, body: JSON.stringify(row) });
    if (answer.ok) return true;
    byId("problem").textContent = `Not saved: ${await answer.text()}`;
  } catch {
    byId("problem").textContent = "Not saved: the server does not answer. Start it again, then choose again.";
  }
  return false;
}
