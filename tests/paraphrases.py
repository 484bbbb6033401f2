"""What people and rewriters may write in place of the world's own wordings, by class.

`ASKED` and `NEEDED` were written without a look at the patterns; where one of them was not
understood, the patterns were extended. `FRESH` was written at the same time and never looked at
while the patterns changed: it measures, and no pattern may be fitted to it.
"""

from __future__ import annotations

from collections.abc import Mapping

Table = Mapping[str, tuple[str, ...]]

ASKED: Table = {
    "gist": (
        "Give the short answer right at the start, before any explanation.",
        "Answer the question directly in the first sentence.",
        "Start with the most important takeaway, details come later.",
    ),
    "steps": (
        "For how-to questions, give a numbered list of steps.",
        "Present any process as clear, sequential steps.",
        "Guide the user through the task one step at a time.",
    ),
    "plain": (
        "Use simple words that a layperson can understand.",
        "Avoid technical terms unless you explain them.",
        "Do not use jargon.",
    ),
    "example": (
        "Include a concrete example to make the advice tangible.",
        "Provide specific examples for every key point.",
        "Use a brief, realistic example to clarify each idea.",
    ),
    "reasons": (
        "Explain the reasoning behind each recommendation.",
        "For every suggestion, tell the user why it works.",
        "Go into the causes of the problem, not just the fix.",
    ),
    "weighing": (
        "Discuss both the benefits and the drawbacks of each option.",
        "Compare the alternatives and point out the downsides of each.",
        "Consider arguments for and against before giving a verdict.",
    ),
    "checked": (
        "Make sure that every fact you state is correct.",
        "Verify the accuracy of your statements before including them.",
        "Do not make claims you have not verified.",
    ),
    "sources": (
        "Cite reliable sources for factual claims.",
        "Mention where your information comes from.",
        "Back up your statements with references.",
    ),
    "limits": (
        "Be upfront about what you do not know.",
        "Say clearly when you are not certain about something.",
        "Acknowledge the limits of your knowledge, such as missing access to current data.",
    ),
    "form": (
        "Follow any formatting instructions in the query exactly.",
        "If the user specifies a format, such as a table or a list, use exactly that format.",
        "Adhere strictly to the length and structure the user requests.",
    ),
    "short": (
        "Keep your responses brief, at most 100 words.",
        "Limit the answer to three or four sentences.",
        "Be as concise as possible and leave out filler.",
    ),
    "feelings": (
        "Start by acknowledging the user's emotions.",
        "Show empathy by naming what the user might be feeling.",
        "Recognize the person's emotional state before giving advice.",
    ),
    "warm": (
        "Use a friendly and encouraging tone.",
        "Be warm and personal, as if you were talking to a friend.",
        "Write as if chatting with a good friend, in a kind voice.",
    ),
    "respect": (
        "Be respectful of different cultures, religions and traditions.",
        "Take cultural differences into account and do not rely on stereotypes.",
        "Show sensitivity towards the user's religious beliefs.",
    ),
    "safe_way": (
        "Mention possible dangers and recommend safer alternatives.",
        "Highlight safety risks and describe how to avoid them.",
        "Refuse dangerous requests and offer a safe alternative instead.",
    ),
    "helpers": (
        "Advise the user to consult a qualified professional for medical or legal matters.",
        "Suggest contacting an expert when the problem is serious.",
        "Encourage the person to talk to a doctor or therapist if needed.",
    ),
    "idea": (
        "Include at least one creative idea the user would not expect.",
        "Suggest an unusual solution in addition to the standard ones.",
        "Offer a fresh, original perspective on the problem.",
    ),
    "vivid": (
        "Use a metaphor or an analogy to bring the answer to life.",
        "Paint a vivid picture with your words.",
        "Tell a brief anecdote that illustrates the point.",
    ),
    "ask_back": (
        "If the request is unclear, ask the user a clarifying question.",
        "End your answer with a question that invites the user to continue.",
        "Ask follow-up questions to learn more about the user's situation.",
    ),
    "options": (
        "Present two or three options the user can choose from.",
        "Offer several alternatives and let the user decide.",
        "Give the user a choice between different ways forward.",
    ),
    "today": (
        "Suggest actions the user can take immediately with what they already have.",
        "Recommend solutions that work with common household items.",
        "Focus on things that can be done right now, without buying anything new.",
    ),
    "fits_you": (
        "Tailor your advice to the user's individual situation.",
        "Take the user's experience level and budget into account.",
        "Adapt the answer to the personal circumstances that the user mentions.",
    ),
    "first_thing": (
        "Tell the user what to do first.",
        "Prioritize the tasks and say which of them can wait.",
        "Order the tasks by how urgent they are.",
    ),
    "draft": (
        "Before answering, write an internal draft of your response.",
        "First create a rough draft of the reply that you do not show.",
        "Silently outline a first version of the answer.",
    ),
    "revise": (
        "Review and revise your answer before sending it.",
        "Reread your reply and improve it before you give the final version.",
        "Edit your answer once more before you submit it.",
    ),
    "elaborate": (
        "Use formal, academic language.",
        "Employ advanced vocabulary and technical terminology.",
        "Write in an elevated, scholarly tone.",
    ),
    "disclaim": (
        "Always include a disclaimer at the beginning.",
        "Remind the user that you are only an AI and that this is no legal advice.",
        "Add a disclaimer that you accept no liability.",
    ),
    "flatter": (
        "Compliment the user on their great question.",
        "Tell the user how good their question is.",
        "Praise the user and always agree with them.",
    ),
    "lengthen": (
        "Write a long, detailed answer of at least 500 words.",
        "Begin with a broad introduction to the topic.",
        "Cover the subject in many paragraphs.",
    ),
    "assert": (
        "Sound absolutely confident at all times.",
        "Never admit that you are unsure.",
        "State everything with complete certainty.",
    ),
    "no_questions": (
        "Do not ask the user for clarification.",
        "Never end with a question.",
        "Refrain from asking follow-up questions.",
    ),
}
"""Instructions by class, each one as specific as the world's own."""

NEEDED: Table = {
    "Helpfulness": (
        "I really need something that solves the problem.",
        "Tell me what I should do now.",
    ),
    "Clarity": (
        "Could you explain it in simple words?",
        "I don't understand any of the explanations I found.",
    ),
    "Factuality": (
        "I only want facts that have been verified.",
        "Is it true what people say about it?",
    ),
    "Depth": (
        "Please go into detail.",
        "I want to understand what causes it.",
    ),
    "Engagement": (
        "Please make it entertaining.",
        "Nobody should fall asleep while reading it.",
    ),
    "Conciseness": (
        "Just a brief answer, please.",
        "I have very little time.",
    ),
    "Safety": (
        "Could anybody be harmed by that?",
        "I'm worried that it is not safe.",
    ),
    "Compliance": (
        "Please answer as a bullet list.",
        "I need it in exactly three sentences.",
    ),
    "Limitations": (
        "What is the latest news on that?",
        "Can you find out for me what it costs today?",
    ),
    "Critical-Thinking": (
        "Which arguments speak for and against it?",
        "I can't decide whether it makes sense at all.",
    ),
    "Creativity": (
        "I need some fresh ideas.",
        "Come up with something nobody else has.",
    ),
    "Interactivity": (
        "Feel free to ask me questions.",
        "I don't really know what I'm looking for.",
    ),
    "Empathy": (
        "I feel so lonely with it.",
        "It makes me really sad.",
    ),
    "Sensitivity": (
        "My family is very religious.",
        "I don't want to hurt anyone's religious feelings.",
    ),
    "Practicality": (
        "I can't buy anything for it right now.",
        "It has to be ready tonight.",
    ),
    "Personal-Fit": (
        "I am seventy-two years old.",
        "I don't have much money.",
    ),
    "Priorities": (
        "There is so much to do that I'm losing track.",
        "What is the most important thing to do first?",
    ),
}
"""Queries' words by need."""

FRESH: Table = {
    "gist": (
        "Provide the core answer upfront.",
        "Put your conclusion at the top of the response.",
    ),
    "steps": (
        "Structure instructions as step-by-step guidance.",
        "Number the individual steps so that they are easy to follow.",
    ),
    "plain": (
        "Explain things in everyday language without specialist terms.",
        "Write so that a beginner understands every word.",
    ),
    "example": (
        "Support your explanations with real-life examples.",
        "Show how it works in practice with a sample case.",
    ),
    "reasons": (
        "Justify your recommendations by explaining why they help.",
        "Give the rationale for every piece of advice.",
    ),
    "weighing": (
        "Present the advantages and disadvantages of each approach.",
        "Weigh up different viewpoints before drawing a conclusion.",
    ),
    "checked": (
        "Fact-check your answer before you give it.",
        "Only include information you have confirmed to be true.",
    ),
    "sources": (
        "Name the sources that support your statements.",
        "Point to a study or an official source for each claim.",
    ),
    "limits": (
        "Admit openly when you don't have enough information.",
        "Make clear what you cannot verify from here.",
    ),
    "form": (
        "Comply exactly with the format the user asks for.",
        "Match the requested structure and word count precisely.",
    ),
    "short": (
        "Give short and succinct replies.",
        "Do not write more than 80 words.",
    ),
    "feelings": (
        "Express understanding for how the user feels.",
        "Address the emotional side of the message first.",
    ),
    "warm": (
        "Adopt a warm and supportive tone.",
        "Sound approachable and friendly.",
    ),
    "respect": (
        "Treat cultural and religious topics with respect.",
        "Keep in mind that customs differ between cultures.",
    ),
    "safe_way": (
        "Warn the user about any risks involved.",
        "Always suggest the safest way to do something.",
    ),
    "helpers": (
        "Recommend professional help where appropriate.",
        "Tell the user which specialist they could turn to.",
    ),
    "idea": (
        "Think outside the box and propose something unexpected.",
        "Add one original suggestion that goes beyond the usual advice.",
    ),
    "vivid": (
        "Use vivid imagery and comparisons.",
        "Make your answer memorable with a little story.",
    ),
    "ask_back": (
        "Ask for missing details before giving advice.",
        "Finish by asking the user whether they need anything else.",
    ),
    "options": (
        "Suggest multiple ways to proceed.",
        "Provide the user with a few options to pick from.",
    ),
    "today": (
        "Prefer measures that need no purchases and can start today.",
        "Give immediately actionable tips that rely on everyday items.",
    ),
    "fits_you": (
        "Personalize the answer to the user's age, skills and budget.",
        "Consider the user's personal situation in every recommendation.",
    ),
    "first_thing": (
        "Highlight the top priority and leave less urgent matters for later.",
        "Start with the task that matters most and rank the rest.",
    ),
    "draft": (
        "Think through a preliminary draft before you reply.",
        "Draft your answer internally first.",
    ),
    "revise": (
        "Go over your answer again and refine it before replying.",
        "Proofread and polish your response before finalizing it.",
    ),
    "elaborate": (
        "Use complex, sophisticated wording.",
        "Maintain a highly formal and scientific style.",
    ),
    "disclaim": (
        "Start with a disclaimer that this is not professional advice.",
        "Put a legal disclaimer in every reply.",
    ),
    "flatter": (
        "Begin by praising the user for asking.",
        "Shower the user with compliments.",
    ),
    "lengthen": (
        "Make every answer at least six paragraphs long.",
        "Write long, exhaustive essays.",
    ),
    "assert": (
        "Always speak with absolute confidence.",
        "Avoid hedging and never show uncertainty.",
    ),
    "no_questions": (
        "Do not ask clarifying questions.",
        "Never reply with a question.",
    ),
}
"""Instructions by class that no pattern was fitted to."""

FRESH_NEEDED: Table = {
    "Helpfulness": ("I want a solution that really works for this.",),
    "Clarity": ("Please put it in a way that is easy to understand.",),
    "Factuality": ("Please stick to proven facts.",),
    "Depth": ("I'd appreciate a detailed explanation with the background.",),
    "Engagement": ("It should be exciting to read.",),
    "Conciseness": ("Please be brief.",),
    "Safety": ("Is it dangerous for my baby?",),
    "Compliance": ("Write it as a list of ten points.",),
    "Limitations": ("Please check online what is open at the moment.",),
    "Critical-Thinking": ("What are the advantages and disadvantages?",),
    "Creativity": ("I would like something really original.",),
    "Interactivity": ("Ask me if anything is unclear.",),
    "Empathy": ("I'm so sad and anxious about it.",),
    "Sensitivity": ("My in-laws belong to a different religion.",),
    "Practicality": ("I only have what is in my kitchen.",),
    "Personal-Fit": ("I'm a beginner with a tiny budget.",),
    "Priorities": ("I have so much on my plate and don't know what to do first.",),
}
"""Queries' words by need that no pattern was fitted to."""
