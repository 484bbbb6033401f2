"""What people and rewriters may write in place of the world's own wordings, by class.

`ASKED` and `NEEDED` were written without a look at the patterns; where one of them was not
understood, the patterns were extended. No pattern may be fitted to the other tables: they measure.
"""

from __future__ import annotations

from collections.abc import Mapping

Table = Mapping[str, tuple[str, ...]]

ASKED: Table = {
    "gist": (
        "Give the short answer right at the start, before any explanation.",
        "Answer the question directly in the first sentence.",
        "Start with the most important takeaway, details come later.",
        "The first sentence of your reply should already answer the question.",
    ),
    "steps": (
        "For how-to questions, give a numbered list of steps.",
        "Present any process as clear, sequential steps.",
        "Guide the user through the task one step at a time.",
        "Procedures should be presented as an ordered sequence of manageable steps.",
    ),
    "plain": (
        "Use simple words that a layperson can understand.",
        "Avoid technical terms unless you explain them.",
        "Do not use jargon.",
        "Keep the language simple so that readers without prior knowledge can follow.",
    ),
    "example": (
        "Include a concrete example to make the advice tangible.",
        "Provide specific examples for every key point.",
        "Use a brief, realistic example to clarify each idea.",
        "Whenever you make an abstract claim, follow it up with a practical example.",
    ),
    "reasons": (
        "Explain the reasoning behind each recommendation.",
        "For every suggestion, tell the user why it works.",
        "Go into the causes of the problem, not just the fix.",
        "Every suggestion should come with a short explanation of why it makes sense.",
    ),
    "weighing": (
        "Discuss both the benefits and the drawbacks of each option.",
        "Compare the alternatives and point out the downsides of each.",
        "Consider arguments for and against before giving a verdict.",
        "Shed light on the strengths and weaknesses of the different possibilities.",
    ),
    "checked": (
        "Make sure that every fact you state is correct.",
        "Verify the accuracy of your statements before including them.",
        "Do not make claims you have not verified.",
        "Take a moment to verify factual claims, names and dates before you include them.",
    ),
    "sources": (
        "Cite reliable sources for factual claims.",
        "Mention where your information comes from.",
        "Back up your statements with references.",
        "Indicate on which source or authority your statements are based.",
    ),
    "limits": (
        "Be upfront about what you do not know.",
        "Say clearly when you are not certain about something.",
        "Acknowledge the limits of your knowledge, such as missing access to current data.",
        "Be transparent about the limits of what you know and cannot see.",
    ),
    "form": (
        "Follow any formatting instructions in the query exactly.",
        "If the user specifies a format, such as a table or a list, use exactly that format.",
        "Adhere strictly to the length and structure the user requests.",
        "Pay close attention to explicit format requirements and fulfil them exactly.",
    ),
    "short": (
        "Keep your responses brief, at most 100 words.",
        "Limit the answer to three or four sentences.",
        "Be as concise as possible and leave out filler.",
        "Responses should be short, ideally no longer than a paragraph.",
    ),
    "feelings": (
        "Start by acknowledging the user's emotions.",
        "Show empathy by naming what the user might be feeling.",
        "Recognize the person's emotional state before giving advice.",
        "If the user sounds upset, acknowledge their feelings before anything else.",
    ),
    "warm": (
        "Use a friendly and encouraging tone.",
        "Be warm and personal, as if you were talking to a friend.",
        "Write as if chatting with a good friend, in a kind voice.",
        "Your tone should be warm, personal and encouraging.",
    ),
    "respect": (
        "Be respectful of different cultures, religions and traditions.",
        "Take cultural differences into account and do not rely on stereotypes.",
        "Show sensitivity towards the user's religious beliefs.",
        "Stay respectful and mindful of the user's cultural background.",
    ),
    "safe_way": (
        "Mention possible dangers and recommend safer alternatives.",
        "Highlight safety risks and describe how to avoid them.",
        "Refuse dangerous requests and offer a safe alternative instead.",
        "Point out potential hazards and always propose a safer option.",
    ),
    "helpers": (
        "Advise the user to consult a qualified professional for medical or legal matters.",
        "Suggest contacting an expert when the problem is serious.",
        "Encourage the person to talk to a doctor or therapist if needed.",
        "In serious cases, urge the user to seek help from a qualified professional.",
    ),
    "idea": (
        "Include at least one creative idea the user would not expect.",
        "Suggest an unusual solution in addition to the standard ones.",
        "Offer a fresh, original perspective on the problem.",
        "Surprise the user with one idea that is off the beaten track.",
    ),
    "vivid": (
        "Use a metaphor or an analogy to bring the answer to life.",
        "Paint a vivid picture with your words.",
        "Tell a brief anecdote that illustrates the point.",
        "Bring your explanations to life with images, metaphors or short stories.",
    ),
    "ask_back": (
        "If the request is unclear, ask the user a clarifying question.",
        "End your answer with a question that invites the user to continue.",
        "Ask follow-up questions to learn more about the user's situation.",
        "If important details are missing, ask the user about them.",
    ),
    "options": (
        "Present two or three options the user can choose from.",
        "Offer several alternatives and let the user decide.",
        "Give the user a choice between different ways forward.",
        "Wherever possible, lay out two or more alternatives and let the user choose.",
    ),
    "today": (
        "Suggest actions the user can take immediately with what they already have.",
        "Recommend solutions that work with common household items.",
        "Focus on things that can be done right now, without buying anything new.",
        "Concentrate on actions that the user can take today with the resources at hand.",
    ),
    "fits_you": (
        "Tailor your advice to the user's individual situation.",
        "Take the user's experience level and budget into account.",
        "Adapt the answer to the personal circumstances that the user mentions.",
        "Responses should reflect the user's age, experience and financial means.",
    ),
    "first_thing": (
        "Tell the user what to do first.",
        "Prioritize the tasks and say which of them can wait.",
        "Order the tasks by how urgent they are.",
        "Make clear which task is the most urgent and what can be done later.",
    ),
    "draft": (
        "Before answering, write an internal draft of your response.",
        "First create a rough draft of the reply that you do not show.",
        "Silently outline a first version of the answer.",
        "Work out a draft in your mind before writing the final answer.",
    ),
    "revise": (
        "Review and revise your answer before sending it.",
        "Reread your reply and improve it before you give the final version.",
        "Edit your answer once more before you submit it.",
        "Once the answer is written, read it again and correct whatever is weak.",
    ),
    "elaborate": (
        "Use formal, academic language.",
        "Employ advanced vocabulary and technical terminology.",
        "Write in an elevated, scholarly tone.",
        "Your writing should be highly formal, with a rich and sophisticated vocabulary.",
    ),
    "disclaim": (
        "Always include a disclaimer at the beginning.",
        "Remind the user that you are only an AI and that this is no legal advice.",
        "Add a disclaimer that you accept no liability.",
        "Every response must start with a disclaimer.",
    ),
    "flatter": (
        "Compliment the user on their great question.",
        "Tell the user how good their question is.",
        "Praise the user and always agree with them.",
        "Tell the user that they asked an excellent question.",
    ),
    "lengthen": (
        "Write a long, detailed answer of at least 500 words.",
        "Begin with a broad introduction to the topic.",
        "Cover the subject in many paragraphs.",
        "Responses should be long and contain no fewer than four paragraphs.",
    ),
    "assert": (
        "Sound absolutely confident at all times.",
        "Never admit that you are unsure.",
        "State everything with complete certainty.",
        "Your answers should radiate confidence and never contain phrases of doubt.",
    ),
    "no_questions": (
        "Do not ask the user for clarification.",
        "Never end with a question.",
        "Refrain from asking follow-up questions.",
        "The answer must not contain any questions to the user.",
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

BLIND: Table = {
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
"""Instructions by class, written together with `ASKED`, before the patterns were extended."""

BLIND_NEEDED: Table = {
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
"""Queries' words by need, written together with `NEEDED`."""

FRESH: Table = {
    "gist": ("Answer first, explain second.",),
    "steps": ("When describing how to do something, use numbered steps.",),
    "plain": ("No jargon, please: write for people who know nothing about the subject.",),
    "example": ("Make your points relatable through examples from daily life.",),
    "reasons": ("Always include the why behind your recommendations.",),
    "weighing": ("Examine the issue from several perspectives and mention the drawbacks too.",),
    "checked": ("Accuracy comes first: verify each statement and never invent details.",),
    "sources": ("Where you rely on facts, reference the source they come from.",),
    "limits": ("If you lack access to some information, openly admit that you do not know.",),
    "form": ("Respect the output format specified in the request, down to the number of items.",),
    "short": ("Aim for responses of no more than 150 words.",),
    "feelings": ("Open with a sentence that shows you understand how the person feels.",),
    "warm": ("Talk to people like a caring friend would.",),
    "respect": ("Honor cultural norms and avoid assumptions based on stereotypes.",),
    "safe_way": ("Alert users to dangers and steer them towards safe alternatives.",),
    "helpers": ("Direct people to professional support, for example a therapist, when necessary.",),
    "idea": ("Throw in a creative suggestion that nobody would think of.",),
    "vivid": ("Enrich the text with colourful metaphors.",),
    "ask_back": ("Whenever a request is ambiguous, ask for clarification first.",),
    "options": ("Close by outlining possible next steps the user can choose from.",),
    "today": ("Stick to remedies that need nothing beyond common household items.",),
    "fits_you": ("Calibrate recommendations to the user's budget and skill level.",),
    "first_thing": ("Help the user prioritize: which task is urgent and which can wait?",),
    "draft": ("Before you respond, create a private draft.",),
    "revise": ("After drafting, critically review the reply and improve it before sending.",),
    "elaborate": ("Use an academic register with specialised terminology.",),
    "disclaim": ("Make sure that each answer includes a legal disclaimer.",),
    "flatter": ("Open with a compliment about the user's question.",),
    "lengthen": ("Go for lengthy answers with numerous paragraphs.",),
    "assert": ("Present all information with unwavering confidence.",),
    "no_questions": ("Don't end your replies with questions.",),
}
"""Instructions by class, written when the patterns were done."""
